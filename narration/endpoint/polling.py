"""Polling a job's status: at which intervals, and until the job has ended or its deadline has come.

Time is the event loop's, which no change of the wall clock moves.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from narration.endpoint.jobs import Job, JobStatus

MIN_POLL_SECONDS = 0.1  # between two polls of one job
MAX_POLL_SECONDS = 2.0
POLL_FRACTION = 0.075  # of a job's age: six seconds in, its end is noticed within half a second
MAX_UNPOLLED_SECONDS = 10.0  # without a poll of a job that may have ended
REMEMBERED_JOBS = 32
LAST_POLL_SECONDS = 5.0  # for one more poll of a job whose deadline has come

OnStatus = Callable[[Job], None]


@dataclass(frozen=True, slots=True)
class Deadline:
    """`seconds` to wait in all, until the event loop's clock shows `at`."""

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The deadline `seconds` from now."""
        return cls(seconds, _now() + seconds)

    def left(self) -> float:
        """Seconds until the deadline; 0 once it has come."""
        return max(0.0, self.at - _now())


class PollInterval:
    """The pause before the next poll of a job, learned from the execution times of earlier jobs.

    A job is not polled before the shortest execution time among the last `REMEMBERED_JOBS` has
    passed; after that the pause is a fraction of the job's age.
    """

    def __init__(self) -> None:
        self._execution_seconds: deque[float] = deque(maxlen=REMEMBERED_JOBS)

    def learn(self, job: Job) -> None:
        """Remember the execution time of a job that has ended."""
        if job.status is JobStatus.COMPLETED and job.execution_ms:
            self._execution_seconds.append(job.execution_ms / 1000)

    def seconds(self, job: Job | None, age: float) -> float:
        """Seconds until the next poll of a job watched for `age` seconds; `job` is its last status."""
        step = min(max(POLL_FRACTION * age, MIN_POLL_SECONDS), MAX_POLL_SECONDS)
        step *= random.uniform(0.9, 1.1)  # noqa: S311  # spreads the polls, guards nothing
        if job is not None and job.status is not JobStatus.IN_QUEUE:
            return step
        return max(step, min(min(self._execution_seconds, default=0.0), MAX_UNPOLLED_SECONDS))


class JobPoller:
    """Polls jobs by `get_status`, a call that returns a job's present status."""

    def __init__(self, get_status: Callable[[str], Awaitable[Job]]) -> None:
        self._get_status = get_status
        self._interval = PollInterval()

    async def poll_until_ended(
        self, job_id: str, deadline: Deadline, on_status: OnStatus | None, *, just_submitted: bool = False
    ) -> Job:
        """Poll the job until it has ended or `deadline` has come; return its last status.

        The last poll starts when the deadline has come and may take `LAST_POLL_SECONDS`; a job of
        which no status is known by then has the status `UNKNOWN`. `on_status` is called whenever
        status or retries differ from the poll before. The first poll of a job that was
        `just_submitted` waits for the interval. Raises what `get_status` raises.
        """
        began = _now()
        job: Job | None = None
        while True:
            if job is not None or just_submitted:
                pause = self._interval.seconds(job, _now() - began)
                await asyncio.sleep(min(pause, deadline.left()))
            left = deadline.left()
            previous = job
            try:
                async with asyncio.timeout(left + LAST_POLL_SECONDS):
                    job = await self._get_status(job_id)
            except TimeoutError:
                return job or Job(job_id, JobStatus.UNKNOWN)
            if on_status and _differs(previous, job):
                on_status(job)
            if job.status.terminal:
                self._interval.learn(job)
                return job
            if left == 0.0:
                return job


def _differs(previous: Job | None, job: Job) -> bool:
    return previous is None or (previous.status, previous.retries) != (job.status, job.retries)


def _now() -> float:
    return asyncio.get_running_loop().time()
