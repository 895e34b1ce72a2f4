"""The queue's rules: who gets which job, and every way a job can end. No HTTP, no processes, no waiting.

Faithful to what is known of RunPod's queue: dispatch at least once and at most twice, limits
from the job's policy, results that are forgotten after a while.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from infra.local_runpod.jobs import JobStatus, NotRetryable, Policy, QueuedJob, UnknownJob
from infra.local_runpod.worker_registry import WorkerRegistry

RETENTION = 30 * 60.0  # s that a job of /run is remembered after its end
SYNC_RETENTION = 60.0  # s, for one of /runsync
RETAINED_BYTES = 256_000_000  # of ended jobs; beyond it the oldest are forgotten early: memory is finite
WORKER_SILENCE = 30.0  # s without a sign of life, after which a job counts as lost
MAX_DISPATCHES = 2

_TO_BE_STOPPED = frozenset({JobStatus.CANCELLED, JobStatus.TIMED_OUT, JobStatus.FAILED})


class JobQueue:
    """Jobs, and the workers that take them. `on_change` is called when a waiter might have news.

    One event loop owns it. Time is applied to a job when it is looked at, and to all by `sweep`.
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
        self._retained_bytes = retained_bytes
        self._bytes = 0  # of ended jobs
        self._jobs: dict[str, QueuedJob] = {}
        self._waiting: deque[QueuedJob] = deque()
        self._roster = WorkerRegistry()
        self._ended = {status: 0 for status in JobStatus if status.terminal}
        self._redispatched = 0

    # What clients do

    def submit(self, job_input: Any, *, size: int, policy: Policy, sync: bool = False) -> QueuedJob:
        """Queue a job; `size` is its input's, in bytes."""
        job = QueuedJob(
            id=f"{'sync-' if sync else ''}{uuid.uuid4()}-l1",
            input=job_input,
            input_size=size,
            policy=policy,
            retention=min(SYNC_RETENTION, self._retention) if sync else self._retention,
            submitted=self._clock(),
        )
        self._jobs[job.id] = job
        self._waiting.append(job)
        self._on_change()
        return job

    def get(self, job_id: str) -> QueuedJob:
        """The job of that id; raises `UnknownJob`."""
        if job_id in self._jobs:
            self._apply_time(self._jobs[job_id])
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJob(job_id) from None

    def cancel(self, job_id: str) -> QueuedJob:
        """Take a job out of the queue, or have its worker stop it; an ended job stays as it ended."""
        job = self.get(job_id)
        if not job.status.terminal:
            self._stop(job)
            self._end(job, JobStatus.CANCELLED)
        return job

    def retry(self, job_id: str) -> QueuedJob:
        """Queue a failed or timed out job again, under its id, its old answer removed."""
        job = self.get(job_id)
        if job.status not in (JobStatus.FAILED, JobStatus.TIMED_OUT):
            raise NotRetryable(f"the job is {job.status}; only a FAILED or TIMED_OUT job can be retried")
        self._bytes -= job.size
        job.error = job.ended = None
        job.output_size = job.dispatches = 0
        job.submitted = self._clock()
        self._requeue(job)
        return job

    def purge(self) -> int:
        """Forget every job that no worker has taken; return how many."""
        removed = list(self._waiting)
        for job in removed:
            self._forget(job)
        return len(removed)

    def health(self) -> dict[str, dict[str, int]]:
        """Counts of jobs and workers, as /health words them."""
        return {
            "jobs": {
                "completed": self._ended[JobStatus.COMPLETED],
                "failed": self._ended[JobStatus.FAILED] + self._ended[JobStatus.TIMED_OUT],
                "inProgress": self._roster.held(),
                "inQueue": len(self._waiting),
                "retried": self._redispatched,
            },
            "workers": self._roster.counts(),
        }

    # What workers do

    def worker_starting(self, worker_id: str) -> None:
        """Count a worker that has not asked for jobs yet."""
        self._roster.expect(worker_id)

    def worker_ready(self, worker_id: str) -> bool:
        """Whether that worker has asked for jobs."""
        return self._roster.is_ready(worker_id)

    def worker_gone(self, worker_id: str) -> None:
        """A worker's process has ended: what it held goes to another, or fails."""
        for job in reversed(self._roster.remove(worker_id)):
            self._lose(job)
        self._on_change()

    def take(self, worker_id: str, limit: int) -> list[QueuedJob]:
        """Give a worker up to `limit` jobs, oldest first; none to one that is gone."""
        if self._roster.is_gone(worker_id):
            return []
        if not self._roster.is_ready(worker_id):
            self._roster.make_ready(worker_id)
            self._on_change()
        for job in list(islice(self._waiting, limit)):
            self._apply_time(job)
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        for job in taken:
            job.status, job.worker = JobStatus.IN_PROGRESS, worker_id
            job.dispatched = job.last_sign = self._clock()
            job.dispatches += 1
            self._roster.hold(worker_id, job)
        return taken

    def progress(self, job_id: str, output: Any) -> None:
        """Keep what a worker says of a job it still works on."""
        job = self.get(job_id)
        if job.status is JobStatus.IN_PROGRESS:
            job.output = output

    def finish(self, job_id: str, *, output: Any, error: Any, size: int) -> None:
        """Keep a worker's result, of `size` bytes. The first one counts; later ones change nothing."""
        job = self.get(job_id)
        if not job.status.terminal:
            job.output, job.error, job.output_size = output, error, size
            self._end(job, JobStatus.FAILED if error else JobStatus.COMPLETED)

    def ping(self, worker_id: str, job_ids: Iterable[str]) -> None:
        """A worker's sign of life for the jobs it holds; told again to stop those it should not hold."""
        if self._roster.is_gone(worker_id):
            return
        for job_id in job_ids:
            job = self._jobs.get(job_id)
            if job is None or job.status in _TO_BE_STOPPED:
                self._roster.stop(worker_id, job_id)
                self._on_change()
            elif job.worker == worker_id:
                job.last_sign = self._clock()

    def stops(self, worker_id: str) -> list[str]:
        """The jobs that a worker must stop, each handed over once."""
        return self._roster.take_stops(worker_id)

    # What time does

    def sweep(self) -> None:
        """Apply every limit that has passed."""
        for job in list(self._jobs.values()):
            self._apply_time(job)

    def _apply_time(self, job: QueuedJob) -> None:
        now = self._clock()
        if job.ended is not None:
            if now - job.ended > job.retention:
                self._forget(job)
        elif now - job.submitted > job.policy.life:
            self._stop(job)
            self._forget(job)
        elif job.dispatched is not None and now - job.dispatched > job.policy.execution:
            self._stop(job)
            self._end(job, JobStatus.TIMED_OUT)
        elif job.dispatched is not None and now - job.last_sign > WORKER_SILENCE:
            self._lose(job)

    # How a job moves

    def _lose(self, job: QueuedJob) -> None:
        """No worker will answer for it: dispatch it once more, in front, or give up in RunPod's words."""
        if job.dispatches < MAX_DISPATCHES:
            self._redispatched += 1
            self._requeue(job, in_front=True)
        else:
            job.error = f"job timed out after {MAX_DISPATCHES - 1} retries"
            self._end(job, JobStatus.FAILED)

    def _requeue(self, job: QueuedJob, *, in_front: bool = False) -> None:
        self._detach(job)
        job.status, job.worker, job.dispatched, job.output = JobStatus.IN_QUEUE, None, None, None
        self._waiting.insert(0 if in_front else len(self._waiting), job)
        self._on_change()

    def _end(self, job: QueuedJob, status: JobStatus) -> None:
        self._detach(job)
        job.status, job.ended = status, self._clock()
        self._ended[status] += 1
        if status in (JobStatus.COMPLETED, JobStatus.CANCELLED):  # never to be retried
            job.input, job.input_size = None, 0
        self._bytes += job.size
        self._forget_oldest()
        self._on_change()

    def _forget_oldest(self) -> None:
        if self._bytes > self._retained_bytes:
            for job in [job for job in self._jobs.values() if job.ended is not None]:
                if self._bytes <= self._retained_bytes:
                    break
                self._forget(job)

    def _forget(self, job: QueuedJob) -> None:
        if job.ended is not None:
            self._bytes -= job.size
        self._detach(job)
        del self._jobs[job.id]
        self._on_change()

    def _detach(self, job: QueuedJob) -> None:
        """Out of the line of those waiting, or out of its worker's hands."""
        if job.status is JobStatus.IN_QUEUE and job in self._waiting:
            self._waiting.remove(job)
        else:
            self._roster.let_go(job)

    def _stop(self, job: QueuedJob) -> None:
        if job.status is JobStatus.IN_PROGRESS:
            self._roster.stop(job.worker, job.id)
            self._on_change()
