"""The workers of a queue: which have asked for jobs, which jobs each has, and which jobs each must stop."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.local_runpod.queued_job import QueuedJob


@dataclass(slots=True, eq=False)
class _Worker:
    ready: bool = False  # has asked for jobs
    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    stop_requests: list[str] = field(default_factory=list)  # ids of jobs


class WorkerRegistry:
    """Workers by id. A worker that is gone stays gone, even if a process still sends requests with its id."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._gone: set[str] = set()

    def add(self, worker_id: str) -> None:
        """Count a worker that is starting."""
        self._workers.setdefault(worker_id, _Worker())

    def is_gone(self, worker_id: str) -> bool:
        """Whether the worker's process has ended."""
        return worker_id in self._gone

    def is_ready(self, worker_id: str) -> bool:
        """Whether the worker has asked for jobs."""
        return worker_id in self._workers and self._workers[worker_id].ready

    def mark_ready(self, worker_id: str) -> None:
        """Note that the worker has asked for jobs."""
        self.add(worker_id)
        self._workers[worker_id].ready = True

    def remove(self, worker_id: str) -> list[QueuedJob]:
        """Note that the worker is gone; return the jobs it had, oldest first."""
        self._gone.add(worker_id)
        return list(self._workers.pop(worker_id, _Worker()).jobs.values())

    def assign(self, worker_id: str, job: QueuedJob) -> None:
        """Note that the worker has the job."""
        self._workers[worker_id].jobs[job.id] = job

    def release(self, job: QueuedJob) -> None:
        """Note that no worker has the job any more."""
        if job.worker in self._workers:
            self._workers[job.worker].jobs.pop(job.id, None)

    def request_stop(self, worker_id: str | None, job_id: str) -> None:
        """Ask the worker to stop a job, when it next asks which to stop."""
        if worker_id in self._workers:
            self._workers[worker_id].stop_requests.append(job_id)

    def take_stop_requests(self, worker_id: str) -> list[str]:
        """The ids of the jobs that the worker must stop, each returned once."""
        if worker_id not in self._workers:
            return []
        worker = self._workers[worker_id]
        job_ids, worker.stop_requests = worker.stop_requests, []
        return job_ids

    def assigned_jobs(self) -> int:
        """The number of jobs that workers have."""
        return sum(len(worker.jobs) for worker in self._workers.values())

    def counts(self) -> dict[str, int]:
        """The number of workers by state, as /health shows them."""
        ready = [worker for worker in self._workers.values() if worker.ready]
        idle = sum(not worker.jobs for worker in ready)
        return {
            "idle": idle,
            "initializing": len(self._workers) - len(ready),
            "ready": len(ready),
            "running": len(ready) - idle,
            "throttled": 0,
            "unhealthy": 0,
        }
