"""The queue's rules: which worker gets which job, and how a job ends. No HTTP, no processes, no waiting.

As far as RunPod's queue is known, this one does the same: a job is dispatched at least once and at
most twice, the time limits of its policy hold, and its result is dropped after a while.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from infra.local_runpod.ended_jobs import RETAINED_BYTES, RETENTION, SYNC_RETENTION, EndedJobs
from infra.local_runpod.queued_job import NotRetryable, QueuedJob, QueuedJobStatus, TimeLimits, UnknownJob
from infra.local_runpod.worker_registry import WorkerRegistry

PING_TIMEOUT = 30.0  # s without a ping for a job, after which its worker counts as dead
MAX_DISPATCHES = 2

_STOP_STATUSES = frozenset({QueuedJobStatus.CANCELLED, QueuedJobStatus.TIMED_OUT, QueuedJobStatus.FAILED})


class JobQueue:
    """Jobs and the workers that take them. `on_change` is called when a waiting request should look again.

    Used by one event loop. Time limits are applied to a job when it is looked up, and to all jobs by
    `apply_time_limits`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
        retention: float = RETENTION,
        retained_bytes: int = RETAINED_BYTES,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._retention = retention
        self._jobs: dict[str, QueuedJob] = {}
        self._waiting: deque[QueuedJob] = deque()
        self._ended = EndedJobs(retained_bytes)
        self._workers = WorkerRegistry()
        self._redispatched = 0

    # Calls of clients

    def submit(self, job_input: Any, *, size: int, limits: TimeLimits, sync: bool = False) -> QueuedJob:
        """Queue a job; `size` is the input's, in bytes."""
        job = QueuedJob(
            id=f"{'sync-' if sync else ''}{uuid.uuid4()}-l1",
            input=job_input,
            input_size=size,
            limits=limits,
            retention=min(SYNC_RETENTION, self._retention) if sync else self._retention,
            submitted=self._clock(),
        )
        self._jobs[job.id] = job
        self._waiting.append(job)
        self._on_change()
        return job

    def get(self, job_id: str) -> QueuedJob:
        """The job with this id; raises `UnknownJob`."""
        if job_id in self._jobs:
            self._apply_time_limits(self._jobs[job_id])
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJob(job_id) from None

    def cancel(self, job_id: str) -> QueuedJob:
        """Take a job out of the queue, or have its worker stop it; a job that has ended does not change."""
        job = self.get(job_id)
        if not job.status.terminal:
            self._request_stop(job)
            self._end(job, QueuedJobStatus.CANCELLED)
        return job

    def retry(self, job_id: str) -> QueuedJob:
        """Queue a failed or timed out job again under its id, without its output; raises `NotRetryable`."""
        job = self.get(job_id)
        if job.status not in (QueuedJobStatus.FAILED, QueuedJobStatus.TIMED_OUT):
            raise NotRetryable(f"the job is {job.status}; only a FAILED or TIMED_OUT job can be retried")
        self._ended.discard(job)
        job.error = job.ended = None
        job.output_size = job.dispatches = 0
        job.submitted = self._clock()
        self._requeue(job)
        return job

    def purge(self) -> int:
        """Drop every job that no worker has taken; return their number."""
        waiting = list(self._waiting)
        for job in waiting:
            self._drop(job)
        return len(waiting)

    def health(self) -> dict[str, dict[str, int]]:
        """Counts of jobs and workers, as /health shows them."""
        return {
            "jobs": {
                "completed": self._ended.count(QueuedJobStatus.COMPLETED),
                "failed": self._ended.count(QueuedJobStatus.FAILED, QueuedJobStatus.TIMED_OUT),
                "inProgress": self._workers.assigned_jobs(),
                "inQueue": len(self._waiting),
                "retried": self._redispatched,
            },
            "workers": self._workers.counts(),
        }

    # Calls of workers and of their supervisors

    def worker_starting(self, worker_id: str) -> None:
        """Count a worker that has not asked for jobs yet."""
        self._workers.add(worker_id)

    def worker_ready(self, worker_id: str) -> bool:
        """Whether this worker has asked for jobs."""
        return self._workers.is_ready(worker_id)

    def worker_gone(self, worker_id: str) -> None:
        """A worker's process has ended: dispatch its jobs again, or fail them."""
        for job in reversed(self._workers.remove(worker_id)):
            self._redispatch_or_fail(job)
        self._on_change()

    def take(self, worker_id: str, limit: int) -> list[QueuedJob]:
        """Dispatch up to `limit` jobs to a worker, oldest first; none to a worker that is gone."""
        if self._workers.is_gone(worker_id):
            return []
        if not self._workers.is_ready(worker_id):
            self._workers.mark_ready(worker_id)
            self._on_change()
        for job in list(islice(self._waiting, limit)):
            self._apply_time_limits(job)
        dispatched = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        for job in dispatched:
            job.status, job.worker = QueuedJobStatus.IN_PROGRESS, worker_id
            job.dispatched = job.last_ping = self._clock()
            job.dispatches += 1
            self._workers.assign(worker_id, job)
        return dispatched

    def progress(self, job_id: str, output: Any) -> None:
        """Keep the output that a worker shows of a job it still works on."""
        job = self.get(job_id)
        if job.status is QueuedJobStatus.IN_PROGRESS:
            job.output = output

    def finish(self, job_id: str, *, output: Any, error: Any, size: int) -> None:
        """Keep a worker's result, of `size` bytes. The first result counts; later ones change nothing."""
        job = self.get(job_id)
        if not job.status.terminal:
            job.output, job.error, job.output_size = output, error, size
            self._end(job, QueuedJobStatus.FAILED if error else QueuedJobStatus.COMPLETED)

    def ping(self, worker_id: str, job_ids: Iterable[str]) -> None:
        """A worker says that it works on these jobs; it is asked again to stop those that have ended."""
        if self._workers.is_gone(worker_id):
            return
        for job_id in job_ids:
            job = self._jobs.get(job_id)
            if job is None or job.status in _STOP_STATUSES:
                self._workers.request_stop(worker_id, job_id)
                self._on_change()
            elif job.worker == worker_id:
                job.last_ping = self._clock()

    def take_stop_requests(self, worker_id: str) -> list[str]:
        """The ids of the jobs that a worker must stop, each returned once."""
        return self._workers.take_stop_requests(worker_id)

    # Time limits and status changes

    def apply_time_limits(self) -> None:
        """Apply to every job the time limits that have passed."""
        for job in list(self._jobs.values()):
            self._apply_time_limits(job)

    def _apply_time_limits(self, job: QueuedJob) -> None:
        now = self._clock()
        if job.ended is not None:
            if now - job.ended > job.retention:
                self._drop(job)
        elif now - job.submitted > job.limits.ttl:
            self._request_stop(job)
            self._drop(job)
        elif job.dispatched is not None and now - job.dispatched > job.limits.execution:
            self._request_stop(job)
            self._end(job, QueuedJobStatus.TIMED_OUT)
        elif job.dispatched is not None and now - job.last_ping > PING_TIMEOUT:
            self._redispatch_or_fail(job)

    def _redispatch_or_fail(self, job: QueuedJob) -> None:
        """Put a job whose worker is dead first in the queue; after two dispatches fail it as RunPod does."""
        if job.dispatches < MAX_DISPATCHES:
            self._redispatched += 1
            self._requeue(job, in_front=True)
        else:
            job.error = f"job timed out after {MAX_DISPATCHES - 1} retries"
            self._end(job, QueuedJobStatus.FAILED)

    def _requeue(self, job: QueuedJob, *, in_front: bool = False) -> None:
        self._detach(job)
        job.status, job.worker, job.dispatched, job.output = QueuedJobStatus.IN_QUEUE, None, None, None
        self._waiting.insert(0 if in_front else len(self._waiting), job)
        self._on_change()

    def _end(self, job: QueuedJob, status: QueuedJobStatus) -> None:
        self._detach(job)
        job.status, job.ended = status, self._clock()
        if status in (QueuedJobStatus.COMPLETED, QueuedJobStatus.CANCELLED):  # never to be retried
            job.input, job.input_size = None, 0
        self._ended.add(job)
        while (oldest := self._ended.oldest_beyond_limit()) is not None:
            self._drop(oldest)
        self._on_change()

    def _drop(self, job: QueuedJob) -> None:
        self._ended.discard(job)
        self._detach(job)
        del self._jobs[job.id]
        self._on_change()

    def _detach(self, job: QueuedJob) -> None:
        """Take a job out of the queue or away from its worker."""
        if job.status is QueuedJobStatus.IN_QUEUE and job in self._waiting:
            self._waiting.remove(job)
        else:
            self._workers.release(job)

    def _request_stop(self, job: QueuedJob) -> None:
        if job.status is QueuedJobStatus.IN_PROGRESS:
            self._workers.request_stop(job.worker, job.id)
            self._on_change()
