"""What a person sees of a run: a progress that is right at both ends, a table that a browser can show."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support.plans import empty_tally, plan_of, stored_clip

from narration.escaping import escape_html
from narration.manifest import Manifest
from narration.planning import Plan
from narration.pruning import UnneededObject
from narration.store import ObjectInfo, open_store
from narration.synthesis.progress import Progress, listening
from narration.synthesis.run_state import RunState
from narration.synthesis.synthesizer import SynthesizedClip
from tasks import pages, report


def make(tally: RunState, plan: Plan, index: int) -> None:
    """Chunk `index` was made in this run."""
    digest = plan.chunks[index - 1].digest
    tally.made[digest] = SynthesizedClip(stored_clip(digest), 1, 0.5)


def doubtful(plan: Plan, index: int, fault: str) -> Plan:
    """`plan` with chunk `index` stored since long, and never quite right."""
    chunks = list(plan.chunks)
    chunks[index - 1] = replace(chunks[index - 1], clip=stored_clip(chunks[index - 1].digest, fault))
    return replace(plan, chunks=tuple(chunks))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was to be shown, in order; there is no server."""
    artifacts: list[dict[str, Any]] = []

    async def note(*_: object, **artifact: Any) -> None:
        artifacts.append(artifact)

    async def note_markdown(text: str, **artifact: Any) -> None:
        artifacts.append(artifact | {"markdown": text})

    for kind in ("acreate_progress", "acreate_table", "aupdate_progress"):
        monkeypatch.setattr(report, f"{kind}_artifact", note)
    monkeypatch.setattr(report, "acreate_markdown_artifact", note_markdown)
    monkeypatch.setattr(pages, "acreate_table_artifact", note)
    return artifacts


async def test_a_terminal_hears_of_the_beginning_and_of_the_end(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """However quickly clips are made, and however it ends: first where it stands, last where it got to."""
    plan, account = plan_of(tmp_path, range(1, 4)), empty_tally()
    told: list[Progress] = []

    async def fails() -> None:
        async with report.progress_shown(plan, account):
            make(account, plan, 3)
            raise RuntimeError

    with listening(told.append):
        async with report.progress_shown(plan, account):
            await asyncio.sleep(0)
            make(account, plan, 1)
            make(account, plan, 2)
        with pytest.raises(RuntimeError):
            await fails()
    assert {each.step for each in told} == {"synthesize"}
    assert [(each.made, each.total) for each in told] == [(0, 3), (2, 3), (3, 3)]
    assert shown[0]["progress"] == 0.0


async def test_what_is_told_does_not_grow_with_the_clips(
    tmp_path: Path, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each telling walks over all chunks: a telling for each clip would cost the square of the script."""
    monkeypatch.setattr(report, "SECONDS_BETWEEN_TELLS", 3_600)
    plan, account = plan_of(tmp_path, range(1, 21)), empty_tally()
    told: list[Progress] = []
    with listening(told.append):
        async with report.progress_shown(plan, account):
            for index in range(1, 21):
                make(account, plan, index)
                await asyncio.sleep(0)
    assert [each.percent for each in told] == [5.0, 100.0]
    assert len(shown) == 1


async def test_a_table_too_long_for_a_browser_keeps_what_a_person_should_see(
    tmp_path: Path, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed before doubtful before new, in the script's order, and it says how many are left out."""
    monkeypatch.setattr(report, "MAX_ROWS", 4)
    plan, account = plan_of(tmp_path, range(1, 13)), empty_tally()
    account.failed[plan.chunks[10].digest] = RuntimeError("never | came")
    plan = doubtful(plan, 9, "clipping: half of it")
    make(account, plan, 5)
    make(account, plan, 6)
    make(account, plan, 7)
    await report.show_chunks(plan, account)
    table = shown[0]["table"]
    assert [(row["chunk"], row["state"]) for row in table] == [
        (5, "synthesized"),
        (6, "synthesized"),
        (9, "cached"),
        (11, "failed"),
    ]
    assert "clipping" in table[2]["doubts"]
    assert table[3]["doubts"] == r"never \| came"
    assert "8 of 12 are left out" in shown[0]["description"]


HOSTILE = "[a](javascript:x) ![b](http://h/p) <img src=x onerror=y> | *c* _d_\n\n1. e\n# f"


async def test_no_words_from_outside_become_markup_in_an_artifact(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """Other words for a chunk, faults in a sidecar, a worker's reason, a file's name: all are only words."""
    plan, account = plan_of(tmp_path, [1, 2]), empty_tally()
    hostile = plan.chunks[0].request.model_copy(update={"prompt": HOSTILE})
    plan = doubtful(
        replace(plan, chunks=(replace(plan.chunks[0], request=hostile), plan.chunks[1])), 1, HOSTILE
    )
    account.failed[plan.chunks[1].digest] = RuntimeError(HOSTILE)
    key = "inbox/[a](h) *c* _d_.md"
    info = ObjectInfo(key, 1, datetime.now(UTC))
    outcome = account.report(plan, notes=(HOSTILE,), manifest="m")
    await report.show_chunks(plan, account)
    await report.show_failure(plan, account, "try again")
    await report.show_summary(open_store(str(tmp_path)), outcome, Manifest.model_construct(files=()))
    await pages.show_sweep({key: HOSTILE})
    await pages.show_prune([UnneededObject(info, "old")], deleted=False)
    cells = [str(cell) for each in shown for row in each.get("table", ()) for cell in row.values()]
    rendered = [
        MarkdownIt("commonmark").enable("table").render(text)
        for text in (*cells, *(each["markdown"] for each in shown if "markdown" in each))
    ]
    told = escape_html(" ".join(HOSTILE.split()))
    assert sum(told in page for page in rendered) == 6
    assert not any(re.search(r"<(a|img|em|ol)\b", page) for page in rendered)


async def test_a_clip_that_another_run_stored_is_shown_as_cached(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """With its length and its doubts, and at no cost."""
    plan, account = plan_of(tmp_path, range(1, 3)), empty_tally()
    digest = plan.chunks[0].digest
    account.made[digest] = SynthesizedClip(stored_clip(digest, "clipping: half of it"), 0, 0.0, found=True)
    await report.show_chunks(plan, account)
    row = shown[0]["table"][0]
    assert (row["state"], row["cost $"], row["seconds"]) == ("cached", 0, 1.0)
    assert "clipping" in row["doubts"]


async def test_a_table_that_fits_is_whole(tmp_path: Path, shown: list[dict[str, Any]]) -> None:
    """Every chunk once, in order."""
    plan = plan_of(tmp_path, range(1, 6))
    await report.show_chunks(plan, empty_tally())
    assert [row["chunk"] for row in shown[0]["table"]] == [1, 2, 3, 4, 5]
    assert "left out" not in shown[0]["description"]
