"""Policy of cancelling: whoever stops a run stops paying for its jobs, also when its process is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from narration.endpoint import open_endpoint
from narration.errors import NarrationError
from narration.settings import Settings, read_settings
from narration.store import JobRecord, Store, open_store

LOOKED_BACK = 200  # cancelled runs whose jobs are looked for; as many as a server tells at once


async def cancel_jobs(flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG001  # Prefect calls hooks by keyword
    """Cancel the jobs that a cancelled run and its subflows left; also called when their process is dead.

    Not for a crashed run: it is scheduled again, and fetches what its jobs have made meanwhile.
    """
    settings = read_settings()
    store = open_store(settings.store)
    runs = await _with_subflows([flow_run])
    await _cancel(store, settings, await asyncio.to_thread(_jobs_on_record, store), runs)


async def cancel_left_behind(store: Store, settings: Settings) -> None:
    """Cancel the jobs of runs that were cancelled while no worker was there to call the hook.

    What fails is noted, and looked for again the next time.
    """
    try:
        records = await asyncio.to_thread(_jobs_on_record, store)
        if records:
            await _cancel(store, settings, records, await _with_subflows(await _cancelled_lately()))
    except NarrationError as error:
        get_run_logger().warning("jobs of cancelled runs may be left: %s", error)


def _jobs_on_record(store: Store) -> list[JobRecord]:
    return list(store.jobs.list())


async def _cancel(
    store: Store, settings: Settings, records: Collection[JobRecord], runs: Collection[str]
) -> None:
    """Cancel every job of `records` that one of `runs` submitted; raises a failure once all were tried."""
    if settings.endpoint_id is None or settings.runpod_api_key is None:
        return
    async with open_endpoint(settings) as endpoint:

        async def cancel(record: JobRecord) -> None:
            await endpoint.cancel(record.job_id)
            await asyncio.to_thread(store.jobs.delete, record.digest)

        theirs = [each for each in records if each.run in runs and each.endpoint == endpoint.endpoint_id]
        outcomes = await asyncio.gather(*map(cancel, theirs), return_exceptions=True)
    for failure in outcomes:
        if failure is not None:
            raise failure


async def _cancelled_lately() -> list[FlowRun]:
    cancelled = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED]))
    )
    async with get_client() as client:
        return await client.read_flow_runs(
            flow_run_filter=cancelled, sort=FlowRunSort.END_TIME_DESC, limit=LOOKED_BACK
        )


async def _with_subflows(runs: Collection[FlowRun]) -> set[str]:
    """Ids of `runs` and of the runs that they have started in their own process."""
    ids = [run.id for run in runs]
    if not ids:
        return set()
    started = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=ids))
    async with get_client() as client:
        subflows = await client.read_flow_runs(flow_run_filter=started)
    return {str(run.id) for run in (*runs, *subflows)}
