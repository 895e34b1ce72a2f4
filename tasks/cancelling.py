"""Cancels the jobs of cancelled runs, also of runs whose process is dead."""

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
from narration.store import JobCollection, JobRecord, Store, open_store

RECENT_RUNS = 200  # latest cancelled runs whose jobs are cancelled; as many as a server lists at once


async def cancel_jobs(flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG001  # Prefect calls hooks by keyword
    """Cancel the unfinished jobs of a cancelled run and its subflows; Prefect calls it for dead ones too.

    It is no hook for crashed runs: they are scheduled again, and take the results of their jobs.
    """
    settings = read_settings()
    store = open_store(settings.store)
    runs = await _with_subflows([flow_run])
    await _cancel(store.jobs, await asyncio.to_thread(_records, store.jobs), runs, settings)


async def cancel_leftover_jobs(store: Store, settings: Settings) -> None:
    """Cancel the jobs of runs that were cancelled while no worker was there to call the hook.

    A failure is logged: the next call tries again.
    """
    try:
        records = await asyncio.to_thread(_records, store.jobs)
        if records:
            runs = await _with_subflows(await _recently_cancelled())
            await _cancel(store.jobs, records, runs, settings)
    except NarrationError as error:
        get_run_logger().warning("jobs of cancelled runs may still be running: %s", error)


def _records(jobs: JobCollection) -> list[JobRecord]:
    return list(jobs.list())


async def _cancel(
    jobs: JobCollection, records: Collection[JobRecord], runs: Collection[str], settings: Settings
) -> None:
    """Cancel the jobs on record that `runs` submitted; raises the first failure after all were tried."""
    if settings.endpoint_id is None or settings.runpod_api_key is None:
        return
    async with open_endpoint(settings) as endpoint:

        async def cancel(record: JobRecord) -> None:
            await endpoint.cancel(record.job_id)
            await asyncio.to_thread(jobs.delete, record.digest)

        own = [each for each in records if each.run in runs and each.endpoint == endpoint.endpoint_id]
        outcomes = await asyncio.gather(*map(cancel, own), return_exceptions=True)
    for failure in outcomes:
        if failure is not None:
            raise failure


async def _recently_cancelled() -> list[FlowRun]:
    cancelled = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED]))
    )
    async with get_client() as client:
        return await client.read_flow_runs(
            flow_run_filter=cancelled, sort=FlowRunSort.END_TIME_DESC, limit=RECENT_RUNS
        )


async def _with_subflows(runs: Collection[FlowRun]) -> set[str]:
    """The ids of `runs` and of their subflows."""
    ids = [run.id for run in runs]
    if not ids:
        return set()
    started = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=ids))
    async with get_client() as client:
        subflows = await client.read_flow_runs(flow_run_filter=started)
    return {str(run.id) for run in (*runs, *subflows)}
