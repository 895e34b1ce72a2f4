"""The progress of a run: reported to the terminal, and shown as a progress artifact in the Prefect UI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from narration.planning import Plan
from narration.synthesis.progress import Progress, report_progress
from narration.synthesis.run_state import RunState
from tasks.maintenance_artifacts import best_effort

SECONDS_BETWEEN_UPDATES = 2.0  # of the progress artifact
SECONDS_BETWEEN_REPORTS = 0.5  # to the terminal; each goes through all chunks, too much to do for each clip


def show_step(step: str, plan: Plan, state: RunState) -> None:
    """Report the step that a run is at, with the counts of its chunks and its seconds of speech."""
    synthesized, cached, failed = state.counts(plan)
    cached -= state.waiting(plan)
    spent = state.budget.spent
    stored, expected = _speech_seconds(plan, state)
    report_progress(Progress(step, len(plan.chunks), cached, synthesized, failed, spent, stored, expected))


def _speech_seconds(plan: Plan, state: RunState) -> tuple[float, float]:
    """Seconds of speech that are stored, and of the whole narration, with the plan's estimate of the rest."""
    clips = state.clips(plan)
    stored = sum(clips[entry.digest].seconds for entry in plan.chunks if entry.digest in clips)
    characters = sum(len(entry.text) for entry in plan.chunks)
    missing = sum(len(entry.text) for entry in plan.chunks if entry.digest not in clips)
    return stored, stored + plan.estimate.speech_seconds * missing / characters


@asynccontextmanager
async def synthesis_progress(plan: Plan, state: RunState) -> AsyncIterator[None]:
    """Update the terminal and a progress artifact while the clips are made in the block."""
    artifact: UUID | None = None
    shown = _percent(plan, state)
    with best_effort():
        artifact = await acreate_progress_artifact(
            progress=shown,
            key=f"progress-{plan.narration_id}",
            description=f"Chunks of {plan.narration_id} with a clip",
        )

    async def update_artifact() -> None:
        nonlocal shown
        percent = _percent(plan, state)
        if artifact is not None and percent != shown:
            with best_effort():
                await aupdate_progress_artifact(artifact, progress=percent)
                shown = percent

    async def keep_updating() -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_UPDATES)
            await update_artifact()

    async def keep_reporting() -> None:
        while True:
            show_step("synthesize", plan, state)
            await asyncio.sleep(SECONDS_BETWEEN_REPORTS)

    updates = [asyncio.create_task(keep_updating()), asyncio.create_task(keep_reporting())]
    try:
        yield
    finally:
        for update in updates:
            update.cancel()
        show_step("synthesize", plan, state)
    await update_artifact()


def _percent(plan: Plan, state: RunState) -> float:
    with_clip = sum(entry.clip is not None or entry.digest in state.synthesized for entry in plan.chunks)
    return round(100 * with_clip / len(plan.chunks), 1)
