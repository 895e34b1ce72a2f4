"""Policy around a flow run: its name, its own id, how a person retries it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import deployment, flow_run

from narration.errors import StoreError
from narration.planning import Plan
from narration.preflight import open_endpoint
from narration.settings import read_settings
from narration.store import Store, open_store


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
        return "press Retry on this run, or `prefect flow-run retry`: only what is missing is synthesized"
    return f"start the same command again: only what is missing is synthesized ({plan.narration_id})"


async def release_clips(store: Store) -> None:
    """Let pruning have what this run needed and nobody else does; a note left behind expires by itself."""
    with suppress(StoreError):
        await asyncio.to_thread(store.release_clips, flow_run_id())


async def cancel_jobs(flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG001  # Prefect calls hooks by keyword
    """Cancel the jobs that a cancelled run and its subflows left; also called when their process is dead.

    Not for a crashed run: it is scheduled again, and fetches what its jobs have made meanwhile.
    """
    settings = read_settings()
    if settings.endpoint_id is None or settings.runpod_api_key is None:
        return
    store = open_store(settings.store)
    runs = {str(flow_run.id), *await _subflows(flow_run)}
    left = await asyncio.to_thread(lambda: [record for record in store.list_jobs() if record.run in runs])
    async with open_endpoint(settings) as endpoint:
        for record in left:
            if record.endpoint == endpoint.endpoint_id:
                await endpoint.cancel(record.job_id)
                await asyncio.to_thread(store.drop_job, record.digest)


async def _subflows(flow_run: FlowRun) -> list[str]:
    """Ids of the runs that `flow_run` has started in its own process."""
    started = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
    async with get_client() as client:
        return [str(run.id) for run in await client.read_flow_runs(flow_run_filter=started)]
