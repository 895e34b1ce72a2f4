"""When to ask: how many at once, how many a second, and how soon to look at a job again.

Time is the event loop's own, which no change of the wall clock moves.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from types import TracebackType

from narration.endpoint.jobs import Job, JobStatus

QUICKEST_LOOK = 0.1  # s between two looks at one job
SLOWEST_LOOK = 2.0  # s
LOOK_FRACTION = 0.075  # of a job's age: six seconds in, the end is noticed within half a second
LONGEST_BLIND = 10.0  # s without a look at a job that may have ended
REMEMBERED_JOBS = 32

jitter = random.Random()  # noqa: S311  # spreads calls; guards nothing


class RateLimiter:
    """Lets calls of one kind through: so many at once, so many a second, none while the server is full.

    RunPod limits each kind of call by endpoint and 10 s, and by how many run at once. `burst` calls
    may follow each other at once; in any 10 s at most `burst + 10 * per_second` pass.
    """

    def __init__(self, *, concurrent: int, per_second: float, burst: int) -> None:
        self._room = asyncio.Semaphore(concurrent)
        self._interval = 1 / per_second
        self._slack = (burst - 1) / per_second
        self._due = 0.0  # loop time at which the call after the last admitted one is on schedule

    async def __aenter__(self) -> None:
        now = asyncio.get_running_loop().time()
        due = max(self._due, now)
        self._due = due + self._interval
        if (wait := due - self._slack - now) > 0:
            await asyncio.sleep(wait)
        await self._room.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._room.release()

    def hold(self, seconds: float) -> None:
        """Let nobody new through for `seconds`, and then one after the other."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now + seconds + self._slack)


class PollInterval:
    """How long to wait before the next look at a job, learned from the jobs that ended before it.

    A job cannot end sooner after its start than the quickest of late has run, so that nobody asks
    before; from then on looks come in steps of a fraction of its age.
    """

    def __init__(self) -> None:
        self._ran: deque[float] = deque(maxlen=REMEMBERED_JOBS)  # seconds of execution

    def learn(self, job: Job) -> None:
        """Take note of a job that has ended."""
        if job.status is JobStatus.COMPLETED and job.execution_ms:
            self._ran.append(job.execution_ms / 1000)

    def wait(self, job: Job | None, age: float) -> float:
        """Seconds until the next look at a job submitted `age` seconds ago; `job` is the last look."""
        step = min(max(LOOK_FRACTION * age, QUICKEST_LOOK), SLOWEST_LOOK) * jitter.uniform(0.9, 1.1)
        if job is not None and job.status is not JobStatus.IN_QUEUE:
            return step
        return max(step, min(min(self._ran, default=0.0), LONGEST_BLIND))
