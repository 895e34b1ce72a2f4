"""What a person sees of a run: a progress that is right at both ends, a table that a browser can show."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_kit import sidecar_of

from narration.planning import Plan, make_plan
from narration.progress import Progress, listening
from narration.script import parse_script
from narration.settings import read_settings
from narration.store import AudioClip, open_store
from narration.synthesis import Made
from narration.synthesis.budget import budget_for
from narration.synthesis.tally import Tally
from tasks import report

FLAC = b"fLaC and so on"


def planned(folder: Path, chunks: int) -> Plan:
    """A plan of so many chunks, none of them stored."""
    text = "\n\n".join(
        f"This is paragraph {number}, which is long enough to be a chunk of its own, without a neighbour."
        for number in range(1, chunks + 1)
    )
    plan = make_plan(
        open_store(str(folder / "store")),
        parse_script(text.encode(), name="long.md"),
        narration_id="long",
        settings=read_settings(engine="draft"),
        voice=None,
    )
    assert len(plan.chunks) == chunks
    return plan


def tally() -> Tally:
    """Nothing made, nothing failed."""
    return Tally(budget_for(read_settings(engine="draft"), "draft"))


def clip(digest: str, *faults: str) -> AudioClip:
    """A stored clip."""
    sidecar = sidecar_of(digest, FLAC, quality={"faults": list(faults)})
    return AudioClip(digest, f"clips/{digest}.flac", sidecar)


def make(tally: Tally, plan: Plan, index: int) -> None:
    """Chunk `index` was made in this run."""
    digest = plan.chunks[index - 1].digest
    tally.made[digest] = Made(clip(digest), 1, 0.5)


def doubtful(plan: Plan, index: int, fault: str) -> Plan:
    """`plan` with chunk `index` stored since long, and never quite right."""
    chunks = list(plan.chunks)
    chunks[index - 1] = replace(chunks[index - 1], clip=clip(chunks[index - 1].digest, fault))
    return replace(plan, chunks=tuple(chunks))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was to be shown, in order; there is no server."""
    artifacts: list[dict[str, Any]] = []

    async def note(*_: object, **artifact: Any) -> None:
        artifacts.append(artifact)

    for kind in ("acreate_progress", "acreate_table", "aupdate_progress"):
        monkeypatch.setattr(report, f"{kind}_artifact", note)
    return artifacts


async def test_a_terminal_hears_of_the_beginning_and_of_the_end(
    tmp_path: Path, shown: list[dict[str, Any]]
) -> None:
    """However quickly clips are made, and however it ends: first where it stands, last where it got to."""
    plan, account = planned(tmp_path, 3), tally()
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
    plan, account = planned(tmp_path, 20), tally()
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
    plan, account = planned(tmp_path, 12), tally()
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


async def test_a_table_that_fits_is_whole(tmp_path: Path, shown: list[dict[str, Any]]) -> None:
    """Every chunk once, in order."""
    plan = planned(tmp_path, 5)
    await report.show_chunks(plan, tally())
    assert [row["chunk"] for row in shown[0]["table"]] == [1, 2, 3, 4, 5]
    assert "left out" not in shown[0]["description"]
