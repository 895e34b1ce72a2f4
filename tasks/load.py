"""Policy of the steps before anything is paid: the script, the plan and the preflight."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from narration.planning import Plan, RetakeRequest, make_plan
from narration.planning.script_source import read_narrated, read_reference, read_text
from narration.preflight import require_ready
from narration.script import Script
from narration.settings import Settings
from narration.store import Store
from narration.synthesis.run_state import RunState
from narration.voices import choose_voice
from tasks.retrying import STORE_RETRY_DELAYS, is_store_outage, store_task
from tasks.runs import flow_run_id


@store_task
async def load_script(
    store: Store, settings: Settings, reference: str | None, text: str | None
) -> tuple[Script, str, Settings]:
    """The script that `reference` or `text` gives, the key it is kept under, and `settings` as they are."""
    if text is not None:
        return *await asyncio.to_thread(read_text, store, text), settings
    return *await asyncio.to_thread(read_reference, store, reference, settings), settings


@store_task
async def plan(
    store: Store,
    script: Script,
    script_key: str,
    narration_id: str,
    settings: Settings,
    changes: Mapping[int, RetakeRequest] | None = None,
) -> Plan:
    """Decide what this narration needs and which of it is stored; pruning leaves that alone from now on."""

    def decide() -> Plan:
        voice = choose_voice(store.voices, settings)
        made = make_plan(
            store,
            script,
            narration_id=narration_id,
            settings=settings,
            voice=voice,
            script_key=script_key,
            changes=changes,
        )
        store.holds.hold(flow_run_id(), {entry.digest for entry in made.chunks})
        store.jobs.delete_many({entry.digest for entry in made.chunks if entry.clip is not None})
        return made

    return await asyncio.to_thread(decide)


@store_task
async def load_narrated(store: Store, settings: Settings, narration_id: str) -> tuple[Script, str, Settings]:
    """The script of a published narration, its key, and `settings` as that narration was made with."""
    return await asyncio.to_thread(read_narrated, store, settings, narration_id)


@task(
    retries=len(STORE_RETRY_DELAYS),
    retry_delay_seconds=STORE_RETRY_DELAYS,
    retry_condition_fn=is_store_outage,
    cache_policy=NO_CACHE,
)
async def preflight(store: Store, settings: Settings, planned: Plan, tally: RunState) -> list[str]:
    """Refuse in seconds what would fail after it was paid for; returns what could not be checked."""
    tally.budget.require_room(planned.estimate.price)
    return await require_ready(store, settings, planned)
