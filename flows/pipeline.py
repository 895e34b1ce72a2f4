"""The recipe that every way in shares: plan, synthesize what is missing, arrange, master, publish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from narration.errors import Damaged, ManifestConflict, NarrationError
from narration.planning import RetakeRequest
from narration.publishing import report_of
from narration.script import Script
from narration.settings import Settings
from narration.store import Store
from narration.synthesis.budget import budget_for
from narration.synthesis.run_state import RunState
from tasks.load import plan, preflight
from tasks.master import master, temporary_folder
from tasks.publish import announce, publish, published_already
from tasks.report import show_chunks, show_failure, show_summary, tell_step
from tasks.runs import flow_run_id, how_to_retry, release_clips
from tasks.sealing import sealed
from tasks.synthesize import synthesize_missing

MAX_REPLANS = 5
"""How often a run plans afresh when a stored clip proves damaged or somebody else published first."""


async def run_pipeline(
    store: Store,
    settings: Settings,
    narration_id: str,
    load: Callable[[], Awaitable[tuple[Script, str, Settings]]],
    changes: Mapping[int, RetakeRequest] | None = None,
) -> dict[str, Any]:
    """Bring the narration `narration_id` of what `load` brings into the store; returns the run's report.

    `load` is called for every plan, since a retake goes by what is published at that moment.
    Raises `ChunksFailed` when some chunk has no clip, after all others are stored.
    """
    tally = RunState(budget_for(settings, settings.engine_in_use()))
    try:
        for _ in range(MAX_REPLANS - 1):
            try:
                return await _plan_and_publish(store, *await load(), narration_id, changes, tally)
            except (Damaged, ManifestConflict):
                continue
        return await _plan_and_publish(store, *await load(), narration_id, changes, tally)
    except NarrationError as error:
        error.clips_stored = error.clips_stored or bool(tally.made) or tally.whole
        raise
    finally:
        await release_clips(store)


async def _plan_and_publish(
    store: Store,
    script: Script,
    script_key: str,
    settings: Settings,
    narration_id: str,
    changes: Mapping[int, RetakeRequest] | None,
    tally: RunState,
) -> dict[str, Any]:
    planned = await plan(store, sealed(script), script_key, narration_id, settings, changes)
    tell_step("plan", planned, tally)
    notes = await preflight(store, settings, sealed(planned), sealed(tally))
    await synthesize_missing(store, settings, planned, tally, run=flow_run_id())
    await show_chunks(planned, tally)
    remedy = how_to_retry(planned) if tally.failures(planned) else ""  # it asks the server
    await show_failure(planned, tally, remedy)
    tally.require_all(planned, remedy=remedy)
    clips = tally.clips(planned)
    manifest = await published_already(store, settings, sealed(planned), sealed(clips))
    if manifest is None:
        tell_step("master", planned, tally)
        async with temporary_folder() as folder:
            finished = await master(store, settings, sealed(planned), sealed(clips), folder)
            tell_step("publish", planned, tally)
            manifest = await publish(
                store, settings, sealed(planned), sealed(clips), sealed(finished), sealed(tally)
            )
    report = report_of(store, planned, manifest, tally).model_copy(update={"notes": tuple(notes)})
    announce(report)
    await show_summary(store, report, manifest)
    return report.model_dump(mode="json")
