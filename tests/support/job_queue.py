"""Short cuts to a job queue's calls, and a clock that a test sets forward."""

from __future__ import annotations

from typing import Any

from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.queued_job import QueuedJob, TimeLimits


class ManualClock:
    """A clock in seconds that stands still until a test adds to `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def submit(queue: JobQueue, prompt: str = "x", *, sync: bool = False, **limits: float) -> QueuedJob:
    """Submit one job of 100 bytes; `limits` are those of `TimeLimits`."""
    return queue.submit({"prompt": prompt}, size=100, limits=TimeLimits(**limits), sync=sync)


def finish(queue: JobQueue, job: QueuedJob, output: Any = "clip", error: Any = None) -> None:
    """Post a worker's result of 1000 bytes."""
    queue.finish(job.id, output=output, error=error, size=1000)
