"""A flow run: its name and id at Prefect, the narration run that it makes, and how a person retries it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from prefect.runtime import deployment, flow_run

from narration.errors import StoreError
from narration.planning import Plan, RetakeRequest
from narration.settings import Settings
from narration.store import open_store, validate_id
from narration.synthesis.budget import budget_for
from narration.synthesis.run_state import NarrationRun, RunState


def flow_run_id() -> str:
    """The id of the current flow run."""
    return str(flow_run.id)


def run_name() -> str:
    """The name of a flow run: that of its narration, else of its flow."""
    parameters = flow_run.parameters or {}
    return str(parameters.get("narration_id") or flow_run.flow_name)


def start_run(
    narration_id: str, settings: Settings, retakes: Mapping[int, RetakeRequest] | None = None
) -> NarrationRun:
    """The narration run of the current flow run; raises `SettingsError` for a wrong id, store or engine."""
    store = open_store(settings.store)
    validate_id(narration_id)
    state = RunState(budget_for(settings, settings.engine_in_use()))
    return NarrationRun(flow_run_id(), store, settings, narration_id, retakes or {}, state)


def how_to_retry(plan: Plan) -> str:
    """What a person does after chunks failed; Prefect can retry only the runs of a deployment."""
    if deployment.id:
        command = f"prefect flow-run retry {flow_run_id()}"
        return f"press Retry on this run, or `{command}`: only the missing clips are synthesized"
    return f"start the same command again: only the missing clips are synthesized ({plan.narration_id})"


async def release_clips(run: NarrationRun) -> None:
    """Delete the hold on the run's clips, so that they can be pruned; one left behind expires by itself."""
    with suppress(StoreError):
        await asyncio.to_thread(run.store.holds.release, run.flow_run_id)
