"""The workers of a queue: who has asked for jobs, who holds which, and what each must stop."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.local_runpod.jobs import QueuedJob


@dataclass(slots=True, eq=False)
class _Worker:
    ready: bool = False  # has asked for jobs
    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    stops: list[str] = field(default_factory=list)


class WorkerRegistry:
    """Workers by id. One that is gone stays gone, whatever still speaks in its name."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._gone: set[str] = set()

    def expect(self, worker_id: str) -> None:
        """Count a worker that is starting."""
        self._workers.setdefault(worker_id, _Worker())

    def is_gone(self, worker_id: str) -> bool:
        """Whether its process has ended."""
        return worker_id in self._gone

    def is_ready(self, worker_id: str) -> bool:
        """Whether it has asked for jobs."""
        return worker_id in self._workers and self._workers[worker_id].ready

    def make_ready(self, worker_id: str) -> None:
        """Note that it asks for jobs."""
        self.expect(worker_id)
        self._workers[worker_id].ready = True

    def remove(self, worker_id: str) -> list[QueuedJob]:
        """Note that it is gone; return the jobs it held, oldest first."""
        self._gone.add(worker_id)
        return list(self._workers.pop(worker_id, _Worker()).jobs.values())

    def hold(self, worker_id: str, job: QueuedJob) -> None:
        """Put a job into its hands."""
        self._workers[worker_id].jobs[job.id] = job

    def let_go(self, job: QueuedJob) -> None:
        """Take a job out of whoever's hands it is in."""
        if job.worker in self._workers:
            self._workers[job.worker].jobs.pop(job.id, None)

    def stop(self, worker_id: str | None, job_id: str) -> None:
        """Have a worker told to stop a job."""
        if worker_id in self._workers:
            self._workers[worker_id].stops.append(job_id)

    def take_stops(self, worker_id: str) -> list[str]:
        """The jobs it must stop, each handed over once."""
        if worker_id not in self._workers:
            return []
        worker = self._workers[worker_id]
        stops, worker.stops = worker.stops, []
        return stops

    def held(self) -> int:
        """How many jobs are in somebody's hands."""
        return sum(len(worker.jobs) for worker in self._workers.values())

    def counts(self) -> dict[str, int]:
        """Workers by state, as /health words them."""
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
