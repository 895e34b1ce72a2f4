"""The pipeline of the flows `narrate` and `retake`: load, plan, preflight, synthesize, render, publish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from narration.errors import Damaged, ManifestConflict, NarrationError
from narration.planning import NarrationSource
from narration.synthesis.run_state import NarrationRun
from tasks.load import plan_narration, preflight
from tasks.publish import find_published, publish_narration
from tasks.render import render_narration
from tasks.run_artifacts import report_published, require_every_clip
from tasks.runs import release_clips
from tasks.synthesize import synthesize_missing

MAX_REPLANS = 4
"""How often a run plans again, after a stored clip proved damaged or another run published first."""

Load = Callable[[], Awaitable[NarrationSource]]


async def run_pipeline(run: NarrationRun, load: Load) -> dict[str, Any]:
    """Narrate the source that `load` returns and publish it; returns the run's report.

    Every plan loads the source again, since a retake starts from what is published at that moment.
    Raises `ChunksFailed` when some chunk has no clip, after all others are stored.
    """
    try:
        for _ in range(MAX_REPLANS):
            try:
                return await _plan_and_publish(run, load)
            except (Damaged, ManifestConflict):
                continue
        return await _plan_and_publish(run, load)
    except NarrationError as error:
        error.clips_stored = error.clips_stored or run.state.has_stored_clips
        raise
    finally:
        await release_clips(run)


async def _plan_and_publish(run: NarrationRun, load: Load) -> dict[str, Any]:
    source = await load()
    plan = await plan_narration(run, source)
    await preflight(run, plan)
    await synthesize_missing(run, plan)
    narration = await require_every_clip(run, plan)
    manifest = await find_published(run, narration)
    if manifest is None:
        async with render_narration(run, narration) as rendered:
            manifest = await publish_narration(run, rendered)
    return await report_published(run, plan, manifest)
