"""What a run shows: its progress at the beginning and the end, its table of chunks, its summary."""

from __future__ import annotations

import asyncio
import html
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support.plans import new_state, plan_of, stored_clip

from narration.manifest import Manifest
from narration.planning import Plan
from narration.pruning import UnneededObject
from narration.store import ObjectInfo, open_store
from narration.synthesis.progress import Progress, on_progress
from narration.synthesis.run_state import RunState
from narration.synthesis.synthesizer import SynthesizedClip
from tasks import maintenance_artifacts, progress, run_artifacts


def synthesize(state: RunState, plan: Plan, index: int) -> None:
    """Note chunk `index` as synthesized by this run."""
    digest = plan.chunks[index - 1].digest
    state.synthesized[digest] = SynthesizedClip(stored_clip(digest), 1, 0.5)


def with_fault(plan: Plan, index: int, fault: str) -> Plan:
    """`plan` with the clip of chunk `index` stored before, and with this fault."""
    chunks = list(plan.chunks)
    chunks[index - 1] = replace(chunks[index - 1], clip=stored_clip(chunks[index - 1].digest, fault))
    return replace(plan, chunks=tuple(chunks))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The artifacts that would be created or updated, in order; there is no server."""
    artifacts: list[dict[str, Any]] = []

    async def note(*_: object, **artifact: Any) -> None:
        artifacts.append(artifact)

    async def note_markdown(text: str, **artifact: Any) -> None:
        artifacts.append(artifact | {"markdown": text})

    monkeypatch.setattr(progress, "acreate_progress_artifact", note)
    monkeypatch.setattr(progress, "aupdate_progress_artifact", note)
    monkeypatch.setattr(run_artifacts, "acreate_table_artifact", note)
    monkeypatch.setattr(run_artifacts, "acreate_markdown_artifact", note_markdown)
    monkeypatch.setattr(maintenance_artifacts, "acreate_table_artifact", note)
    return artifacts


async def test_a_terminal_gets_the_progress_at_the_beginning_and_the_end(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """However quickly clips are made, and also when the run fails."""
    plan, state = plan_of(tmp_path, range(1, 4)), new_state()
    reports: list[Progress] = []

    async def fails() -> None:
        async with progress.synthesis_progress(plan, state):
            synthesize(state, plan, 3)
            raise RuntimeError

    with on_progress(reports.append):
        async with progress.synthesis_progress(plan, state):
            await asyncio.sleep(0)
            synthesize(state, plan, 1)
            synthesize(state, plan, 2)
        with pytest.raises(RuntimeError):
            await fails()
    assert {each.step for each in reports} == {"synthesize"}
    assert [(each.synthesized, each.total) for each in reports] == [(0, 3), (2, 3), (3, 3)]
    assert shown[0]["progress"] == 0.0


async def test_the_progress_has_the_seconds_of_speech_so_far(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """Measured where a clip is stored, estimated for what is missing: in the end they are one."""
    plan, state = plan_of(tmp_path, range(1, 4)), new_state()
    reports: list[Progress] = []
    with on_progress(reports.append):
        progress.show_step("plan", plan, state)
        synthesize(state, plan, 1)
        progress.show_step("synthesize", plan, state)
        for index in (2, 3):
            synthesize(state, plan, index)
        progress.show_step("master", plan, state)
    assert [each.speech_seconds for each in reports] == [0.0, 1.0, 3.0]
    assert [each.expected_seconds for each in reports] == [
        pytest.approx(plan.estimate.speech_seconds),
        pytest.approx(1.0 + plan.estimate.speech_seconds * 2 / 3, rel=0.01),
        3.0,
    ]
    assert not shown


async def test_the_number_of_reports_does_not_grow_with_the_clips(
    tmp_path: Path, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each report counts all chunks: one for each clip would take time by the square of their number."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 3_600)
    plan, state = plan_of(tmp_path, range(1, 21)), new_state()
    reports: list[Progress] = []
    with on_progress(reports.append):
        async with progress.synthesis_progress(plan, state):
            for index in range(1, 21):
                synthesize(state, plan, index)
                await asyncio.sleep(0)
    assert [each.percent for each in reports] == [5.0, 100.0]
    assert len(shown) == 1


async def test_a_table_too_long_for_a_browser_keeps_the_rows_to_act_on(
    tmp_path: Path, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed before faulty before synthesized chunks, in script order; it says how many are left out."""
    monkeypatch.setattr(run_artifacts, "MAX_ROWS", 4)
    plan, state = plan_of(tmp_path, range(1, 13)), new_state()
    state.failures[plan.chunks[10].digest] = RuntimeError("never | came")
    plan = with_fault(plan, 9, "clipping: half of it")
    synthesize(state, plan, 5)
    synthesize(state, plan, 6)
    synthesize(state, plan, 7)
    await run_artifacts.show_chunks(plan, state)
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


async def test_no_text_from_outside_becomes_markup_in_an_artifact(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """An override, faults in a sidecar, a worker's reason and a file's name are shown as plain text."""
    plan, state = plan_of(tmp_path, [1, 2]), new_state()
    hostile = plan.chunks[0].request.model_copy(update={"prompt": HOSTILE})
    plan = with_fault(
        replace(plan, chunks=(replace(plan.chunks[0], request=hostile), plan.chunks[1])), 1, HOSTILE
    )
    state.failures[plan.chunks[1].digest] = RuntimeError(HOSTILE)
    key = "inbox/[a](h) *c* _d_.md"
    info = ObjectInfo(key, 1, datetime.now(UTC))
    outcome = state.report(plan, notes=(HOSTILE,), manifest="m")
    await run_artifacts.show_chunks(plan, state)
    await run_artifacts.show_failure(plan, state, "try again")
    await run_artifacts.show_summary(open_store(str(tmp_path)), outcome, Manifest.model_construct(files=()))
    await maintenance_artifacts.show_sweep({key: HOSTILE})
    await maintenance_artifacts.show_prune([UnneededObject(info, "old")], deleted=False)
    cells = [str(cell) for each in shown for row in each.get("table", ()) for cell in row.values()]
    rendered = [
        MarkdownIt("commonmark").enable("table").render(text)
        for text in (*cells, *(each["markdown"] for each in shown if "markdown" in each))
    ]
    escaped = html.escape(" ".join(HOSTILE.split()))
    assert sum(escaped in page for page in rendered) == 6
    assert not any(re.search(r"<(a|img|em|ol)\b", page) for page in rendered)


async def test_a_clip_that_another_run_stored_is_shown_as_cached(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """With its length and its faults, and at no cost."""
    plan, state = plan_of(tmp_path, range(1, 3)), new_state()
    digest = plan.chunks[0].digest
    state.synthesized[digest] = SynthesizedClip(
        stored_clip(digest, "clipping: half of it"), 0, 0.0, by_another_run=True
    )
    await run_artifacts.show_chunks(plan, state)
    row = shown[0]["table"][0]
    assert (row["state"], row["cost $"], row["seconds"]) == ("cached", 0, 1.0)
    assert "clipping" in row["doubts"]


async def test_a_table_that_fits_has_every_chunk(tmp_path: Path, shown: list[dict[str, Any]]) -> None:
    """Each once, in order."""
    plan = plan_of(tmp_path, range(1, 6))
    await run_artifacts.show_chunks(plan, new_state())
    assert [row["chunk"] for row in shown[0]["table"]] == [1, 2, 3, 4, 5]
    assert "left out" not in shown[0]["description"]
