"""Slots of a worker: kept full by the jobs it takes beyond them, in order, at no further cost."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from support.clocks import in_virtual_time
from support.fixed_time_engine import MODEL, FixedTimeEngine, busy_share

from gpu_worker.handler import jobs_at_once
from gpu_worker.settings import WorkerSettings
from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.queued_job import QueuedJob, TimeLimits
from narration.contract import SynthesisRequest
from narration.settings import Settings

SLOTS = 32
DECODE = 4.0  # s in a slot, 30 % more or less
JOBS = jobs_at_once(SLOTS, WorkerSettings.model_fields["jobs_per_slot"].default)
TAKE_SECONDS = 0.1  # from a request for jobs to its response
POST_SECONDS = 0.3  # for a result
NOTICE_SECONDS = 0.5  # until the pipeline's client notices that a job has ended, and submits another
WARM_UP = 3 * DECODE
MEASURED = 15 * DECODE


class ScaledWorker:
    """RunPod's real `JobScaler` between the local endpoint's queue and a fixed-time engine, in virtual time.

    It holds up to `jobs` jobs. The queue always has jobs, or with `in_flight` as many as the pipeline's
    client submits: one for each that it knows to have ended.
    """

    def __init__(self, *, jobs: int, in_flight: int | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.engine = FixedTimeEngine(slots=SLOTS, decode_seconds=DECODE)
        self.taken: list[str] = []
        self._jobs = jobs
        self._in_flight = in_flight
        self._numbers = count()
        self._submitted: list[QueuedJob] = []
        self._queue = JobQueue(clock=loop.time)

    async def run(self) -> float:
        """Work for a while; return the part of the slots' time that was used, after the start."""
        from runpod.serverless.modules.rp_scale import JobScaler
        from runpod.serverless.modules.worker_state import JobsProgress

        loop = asyncio.get_running_loop()
        for _ in range(self._in_flight or 4 * self._jobs):
            self._submit()
        scaler = JobScaler(
            {
                "handler": None,
                "concurrency_modifier": lambda _current: self._jobs,
                "jobs_fetcher": self._take,
                "jobs_handler": self._handle,
                "stop_signals_fetcher": self._no_stop_signals,
            }
        )
        running = asyncio.create_task(scaler.run())
        since = loop.time() + WARM_UP
        until = since + MEASURED
        await asyncio.sleep(WARM_UP + MEASURED + 2 * DECODE)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        JobsProgress().clear()
        return busy_share(self.engine.uses, SLOTS, since, until)

    def _submit(self) -> None:
        number = next(self._numbers)
        job_input = {"prompt": f"{number}", "seed": number, "model": MODEL}
        self._queue.submit(job_input, size=100, limits=TimeLimits())

    async def _take(self, _session: object, jobs_needed: int) -> list[dict[str, Any]]:
        await asyncio.sleep(TAKE_SECONDS)
        dispatched = self._queue.take("worker", jobs_needed)
        if self._in_flight is None:
            for _ in dispatched:
                self._submit()
        self.taken += [job.input["prompt"] for job in dispatched]
        return [job.dispatch_json() for job in dispatched]

    async def _handle(self, _session: object, _config: object, job: dict[str, Any]) -> None:
        await self.engine.synthesize(SynthesisRequest(**job["input"]), None)
        await asyncio.sleep(POST_SECONDS)
        self._queue.finish(job["id"], output={}, error=None, size=100)
        if self._in_flight is not None:
            asyncio.get_running_loop().call_later(NOTICE_SECONDS, self._submit)

    async def _no_stop_signals(self, _session: object) -> list[str]:
        await asyncio.sleep(60)
        return []


@pytest.fixture(autouse=True)
def _quiet_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """RunPod's logger prints two lines for each job."""
    monkeypatch.setenv("RUNPOD_LOG_LEVEL", "ERROR")


@in_virtual_time
async def test_the_slots_are_full_while_jobs_are_queued() -> None:
    """With the default number of jobs beyond the slots, at least 95 % of the slots' time is used."""
    assert await ScaledWorker(jobs=JOBS).run() >= 0.95


@in_virtual_time
async def test_one_job_for_each_slot_would_leave_slots_empty() -> None:
    """With as many jobs as slots, at most 80 % is used: a job is held while its result is posted."""
    assert await ScaledWorker(jobs=SLOTS).run() <= 0.80


@in_virtual_time
async def test_the_default_number_of_jobs_in_flight_fills_a_worker() -> None:
    """With `NARRATION_CONCURRENCY` jobs in flight and one worker, at least 95 % is used."""
    in_flight = Settings.model_fields["concurrency"].default
    assert in_flight == JOBS
    assert await ScaledWorker(jobs=JOBS, in_flight=in_flight).run() >= 0.95


@in_virtual_time
async def test_no_job_is_overtaken_while_it_waits_for_a_slot() -> None:
    """Jobs enter the slots in the order in which they were taken, each within one decode time."""
    worker = ScaledWorker(jobs=JOBS)
    await worker.run()
    began = {use.prompt: use.began for use in worker.engine.uses}
    in_order_of_taking = [began[prompt] for prompt in worker.taken if prompt in began]
    assert in_order_of_taking == sorted(in_order_of_taking)
    assert max(use.began - use.submitted for use in worker.engine.uses) <= DECODE
