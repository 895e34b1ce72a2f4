"""Policy around a flow run: its name, its own id, how a person retries it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from prefect.runtime import deployment, flow_run

from narration.errors import StoreError
from narration.planning import Plan
from narration.store import Store


def flow_run_id() -> str:
    """The id of the run this is called in; job records carry it."""
    return str(flow_run.id)


def run_name() -> str:
    """A run is named after its narration."""
    parameters = flow_run.parameters or {}
    return str(parameters.get("narration_id") or flow_run.flow_name)


def how_to_retry(plan: Plan) -> str:
    """What a person does after chunks failed; Prefect can schedule only deployment runs again."""
    if deployment.id:
        command = f"prefect flow-run retry {flow_run_id()}"
        return f"press Retry on this run, or `{command}`: only what is missing is synthesized"
    return f"start the same command again: only what is missing is synthesized ({plan.narration_id})"


async def release_clips(store: Store) -> None:
    """Let pruning have what this run needed and nobody else does; a note left behind expires by itself."""
    with suppress(StoreError):
        await asyncio.to_thread(store.holds.release, flow_run_id())
