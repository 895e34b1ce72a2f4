"""Plans, tallies and clips for tests that run no narration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from narration.planning import Plan, make_plan
from narration.script import parse_script
from narration.settings import read_settings
from narration.store import AudioClip, open_store
from narration.synthesis.budget import budget_for
from narration.synthesis.run_state import RunState
from support.stores import sidecar_of

FLAC = b"fLaC and so on"


def plan_of(folder: Path, numbers: Iterable[int]) -> Plan:
    """A plan of a chunk for each number, none of them stored; the same number says the same words."""
    paragraphs = [
        f"This is paragraph {number}, which is long enough to be a chunk of its own, without a neighbour."
        for number in numbers
    ]
    plan = make_plan(
        open_store(str(folder / "store")),
        parse_script("\n\n".join(paragraphs).encode(), name="long.md"),
        narration_id="long",
        settings=read_settings(engine="draft"),
        voice=None,
    )
    assert len(plan.chunks) == len(paragraphs)
    return plan


def empty_tally() -> RunState:
    """Nothing made, nothing failed, nothing spent."""
    return RunState(budget_for(read_settings(engine="draft"), "draft"))


def stored_clip(digest: str, *faults: str) -> AudioClip:
    """A stored clip."""
    sidecar = sidecar_of(digest, FLAC, quality={"faults": list(faults)})
    return AudioClip(digest, f"clips/{digest}.flac", sidecar)
