"""The jobs that have ended: how many there were of each status, and how long their results are kept."""

from __future__ import annotations

from infra.local_runpod.queued_job import QueuedJob, QueuedJobStatus

RETENTION = 30 * 60.0  # s for which a job of /run is kept after its end
SYNC_RETENTION = 60.0  # s, for a job of /runsync
RETAINED_BYTES = 256_000_000  # of ended jobs; above it the oldest are dropped early, as memory is finite


class EndedJobs:
    """Ended jobs in the order of their ends, within `retained_bytes` of memory.

    The queue drops a job when its retention is over or when this says that it is the oldest beyond
    the limit; a job that is queued or running is never here.
    """

    def __init__(self, retained_bytes: int) -> None:
        self._retained_bytes = retained_bytes
        self._bytes = 0
        self._jobs: dict[str, QueuedJob] = {}
        self._counts = {status: 0 for status in QueuedJobStatus if status.terminal}

    def add(self, job: QueuedJob) -> None:
        """Keep and count a job that has just ended."""
        self._jobs[job.id] = job
        self._bytes += job.size
        self._counts[job.status] += 1

    def discard(self, job: QueuedJob) -> None:
        """No longer keep `job`, if it was kept; it stays counted."""
        if self._jobs.pop(job.id, None) is not None:
            self._bytes -= job.size

    def oldest_beyond_limit(self) -> QueuedJob | None:
        """The job to drop next because the kept jobs take too much memory, None while they do not."""
        return next(iter(self._jobs.values())) if self._bytes > self._retained_bytes else None

    def count(self, *statuses: QueuedJobStatus) -> int:
        """The number of jobs that ever ended with one of `statuses`."""
        return sum(self._counts[status] for status in statuses)
