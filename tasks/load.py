"""The tasks before anything is paid: reading the script, planning, and the preflight."""

from __future__ import annotations

import asyncio

from narration.planning import NarrationSource, Plan, make_plan
from narration.planning.script_source import read_published, read_reference, read_text
from narration.preflight import require_ready
from narration.synthesis.run_state import NarrationRun
from narration.voices import choose_voice
from tasks.progress import show_step
from tasks.retrying import STORE_RETRY_DELAYS, is_store_outage, pipeline_task, store_task


@store_task
async def load_script(run: NarrationRun, reference: str | None, text: str | None) -> NarrationSource:
    """Read the script at `reference`, or `text` itself, and store a copy."""
    scripts, settings = run.store.scripts, run.settings
    if text is not None:
        return await asyncio.to_thread(read_text, scripts, text, settings)
    return await asyncio.to_thread(read_reference, scripts, reference, settings)


@store_task
async def load_published(run: NarrationRun) -> NarrationSource:
    """Read what the published narration was made from: its script and the settings it was narrated with."""
    return await asyncio.to_thread(read_published, run.store, run.narration_id, run.settings)


@store_task
async def plan_narration(run: NarrationRun, source: NarrationSource) -> Plan:
    """Plan the narration, hold its clips back from pruning, and delete the records of jobs that are done."""
    plan = await asyncio.to_thread(_plan, run, source)
    show_step("plan", plan, run.state)
    return plan


def _plan(run: NarrationRun, source: NarrationSource) -> Plan:
    voice = choose_voice(run.store.voices, source.settings)
    plan = make_plan(run.store, source, narration_id=run.narration_id, voice=voice, retakes=run.retakes)
    run.store.holds.hold(run.flow_run_id, {entry.digest for entry in plan.chunks})
    run.store.jobs.delete_many({entry.digest for entry in plan.chunks if entry.clip is not None})
    return plan


@pipeline_task(
    retries=len(STORE_RETRY_DELAYS),
    retry_delay_seconds=STORE_RETRY_DELAYS,
    retry_condition_fn=is_store_outage,
)
async def preflight(run: NarrationRun, plan: Plan) -> None:
    """Fail in seconds where the run would fail after it has paid; notes the checks it could not decide."""
    run.state.budget.require_room(plan.estimate.price)
    run.state.notes = tuple(await require_ready(run.store, plan))
