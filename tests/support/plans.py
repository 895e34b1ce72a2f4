"""Plans, runs and clips for tests that run no narration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from narration.planning import NarrationSource, Plan, SynthesizedNarration, make_plan
from narration.rendering.master import Loudness, Master
from narration.rendering.render import RenderedNarration
from narration.rendering.timeline import Placement, Timeline
from narration.script import parse_script
from narration.settings import read_settings
from narration.store import AudioClip, open_store
from narration.synthesis.budget import budget_for
from narration.synthesis.run_state import NarrationRun, RunState
from support.stores import sidecar_of

FLAC = b"fLaC and so on"


def plan_of(folder: Path, numbers: Iterable[int]) -> Plan:
    """A plan with a chunk for each number and no stored clip; the same number gives the same text."""
    paragraphs = [
        f"This is paragraph {number}, which is long enough to be a chunk of its own, without a neighbour."
        for number in numbers
    ]
    source = NarrationSource(
        parse_script("\n\n".join(paragraphs).encode(), name="long.md"),
        key="",
        settings=read_settings(engine="draft"),
    )
    plan = make_plan(open_store(str(folder / "store")), source, narration_id="long", voice=None)
    assert len(plan.chunks) == len(paragraphs)
    return plan


def with_clips(plan: Plan, *indices: int) -> Plan:
    """`plan` with the clips of these chunks stored before the run."""
    chunks = [
        replace(entry, clip=stored_clip(entry.digest)) if entry.chunk.index in indices else entry
        for entry in plan.chunks
    ]
    return replace(plan, chunks=tuple(chunks))


def new_state() -> RunState:
    """The state of a run of the draft engine that has just begun."""
    return RunState(budget_for(read_settings(engine="draft"), "draft"))


def run_of(folder: Path) -> NarrationRun:
    """A run of the draft engine that has just begun, with its store in `folder`."""
    settings = read_settings(engine="draft")
    return NarrationRun("run", open_store(str(folder / "store")), settings, "long", {}, new_state())


def stored_clip(digest: str, *faults: str) -> AudioClip:
    """A stored clip with these faults."""
    sidecar = sidecar_of(digest, FLAC, quality={"faults": list(faults)})
    return AudioClip(digest, f"clips/{digest}.flac", sidecar)


def rendered(narration: SynthesizedNarration) -> RenderedNarration:
    """The narration as if it were rendered, each clip 10 samples long; none of its files exists."""
    placements = tuple(
        Placement(planned.chunk.index, number * 10, number * 10 + 10, 0, 5, 5, 0.0)
        for number, planned in enumerate(narration.plan.chunks)
    )
    timeline = Timeline(placements, 10 * len(placements))
    loudness = Loudness("video", -14.0, -14.0, -1.0, 5.0, 0.0, limited=False)
    missing = Path("missing")
    master = Master(missing, missing, timeline.samples, loudness)
    return RenderedNarration(narration, timeline, master, (), missing, missing, {})
