"""The SDK's worker loop with more jobs than slots: what it takes, and what cancelling and SIGTERM do."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from support.fixed_time_engine import WORKER, SlotUse, read_uses

from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint
from infra.local_runpod.environment import worker_environment
from infra.local_runpod.queued_job import QueuedJob, QueuedJobStatus, TimeLimits
from infra.local_runpod.workers import WorkerPool

SLOTS = 4
HELD = 6  # jobs: one and a half for each slot
DECODE = 3.0  # s in a slot


@dataclass(frozen=True, slots=True)
class Loop:
    """A worker process with the SDK's loop and a fixed-time engine, and the queue that it takes jobs from."""

    endpoint: LocalEndpoint
    record: Path

    def submit(self, count: int) -> list[QueuedJob]:
        """Queue jobs whose prompts are their numbers."""
        inputs = [{"prompt": f"{number}", "seed": number} for number in range(count)]
        return [self.endpoint.queue.submit(fields, size=100, limits=TimeLimits()) for fields in inputs]

    def uses(self) -> list[SlotUse]:
        """The requests that have left a slot, in that order."""
        return read_uses(self.record)

    def process(self) -> psutil.Process:
        """The process of the loop."""
        for supervisor in psutil.Process().children():
            if "infra.local_runpod.supervisor" in " ".join(supervisor.cmdline()):
                for child in supervisor.children():
                    if child.cmdline()[-1] == WORKER[-1]:
                        return child
        raise AssertionError("no worker runs")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Loop]:
    """The loop while the block runs."""
    record = folder / "uses.jsonl"
    variables = {
        "FIXED_SLOTS": str(SLOTS),
        "FIXED_DECODE_SECONDS": str(DECODE),
        "FIXED_RECORD": str(record),
    }
    environment = worker_environment(os.environ) | variables
    async with serve_endpoint(LocalEndpointOptions(workers=0)) as endpoint:

        def worker_variables(worker_id: str) -> dict[str, str]:
            return environment | endpoint.worker_variables(worker_id)

        pool = WorkerPool(endpoint.queue, worker_variables, count=1, command=WORKER)
        try:
            await pool.start()
            yield Loop(endpoint, record)
        finally:
            await pool.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # changed by another process
            await asyncio.sleep(0.02)


def statuses(jobs: list[QueuedJob]) -> list[QueuedJobStatus]:
    return [job.status for job in jobs]


async def test_the_worker_takes_half_as_many_jobs_again_as_it_has_slots(tmp_path: Path) -> None:
    """Six jobs for four slots, the others stay in RunPod's queue; all are spoken, in order of submission."""
    async with opened(tmp_path) as loop:
        jobs = loop.submit(3 * HELD)
        in_progress = 0

        def all_ended() -> bool:
            nonlocal in_progress
            in_progress = max(in_progress, statuses(jobs).count(QueuedJobStatus.IN_PROGRESS))
            return all(job.status.terminal for job in jobs)

        await until(all_ended)
        uses = loop.uses()
    assert set(statuses(jobs)) == {QueuedJobStatus.COMPLETED}
    assert in_progress == HELD
    assert max(sum(one.began <= other.began < one.ended for one in uses) for other in uses) == SLOTS
    in_order = sorted(uses, key=lambda use: int(use.prompt))
    assert [use.began for use in in_order] == sorted(use.began for use in uses)


async def test_a_job_that_waits_for_a_slot_can_be_cancelled(tmp_path: Path) -> None:
    """It never enters a slot, and those that wait behind it do."""
    async with opened(tmp_path) as loop:
        jobs = loop.submit(HELD)
        await until(lambda: statuses(jobs) == [QueuedJobStatus.IN_PROGRESS] * HELD)
        loop.endpoint.queue.cancel(jobs[SLOTS].id)
        await until(lambda: all(job.status.terminal for job in jobs))
        uses = loop.uses()
    assert {use.prompt for use in uses} == {"0", "1", "2", "3", "5"}
    assert statuses(jobs).count(QueuedJobStatus.COMPLETED) == HELD - 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
async def test_a_terminated_worker_answers_the_jobs_that_wait_for_a_slot_too(tmp_path: Path) -> None:
    """After SIGTERM every job that was taken is spoken and posted by the same worker, which then ends."""
    async with opened(tmp_path) as loop:
        jobs = loop.submit(HELD)
        await until(lambda: statuses(jobs) == [QueuedJobStatus.IN_PROGRESS] * HELD)
        process = loop.process()
        process.terminate()
        await until(lambda: all(job.status.terminal for job in jobs))
        await until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert set(statuses(jobs)) == {QueuedJobStatus.COMPLETED}
    assert [job.dispatches for job in jobs] == [1] * HELD
