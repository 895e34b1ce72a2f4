"""A job of the queue: what it asks, where it stands, and how RunPod words that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class JobStatus(StrEnum):
    """RunPod's names."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def terminal(self) -> bool:
        """Whether a job stays in this status unless a client retries it."""
        return self not in (JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS)


class UnknownJob(LookupError):
    """No such job: never submitted here, expired or forgotten."""


class NotRetryable(ValueError):
    """Only a failed or timed out job can be retried."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a job may take, in seconds: `execution` from its dispatch, `life` from its submission."""

    execution: float = 600.0
    life: float = 86_400.0


@dataclass(slots=True, eq=False)
class QueuedJob:
    """One job. Times are seconds of the queue's clock, sizes are bytes of JSON."""

    id: str
    input: Any
    input_size: int
    policy: Policy
    retention: float  # s that an ended job is remembered
    submitted: float
    status: JobStatus = JobStatus.IN_QUEUE
    worker: str | None = None
    dispatches: int = 0
    dispatched: float | None = None
    last_sign: float = 0.0  # of life, from the worker that holds it
    ended: float | None = None
    output: Any = None
    output_size: int = 0
    error: Any = None

    @property
    def size(self) -> int:
        """Memory's share, near enough."""
        return self.input_size + self.output_size

    def as_taken(self) -> dict[str, Any]:
        """The job as a worker gets it. An empty input is dropped, as RunPod does."""
        return {"id": self.id, **({"input": self.input} if self.input else {})}

    def as_status(self) -> dict[str, Any]:
        """The answer to /status: a field appears when it has something to say; times in ms."""
        answer: dict[str, Any] = {"id": self.id, "status": self.status.value}
        if self.dispatched is not None:
            answer["delayTime"] = round(1000 * (self.dispatched - self.submitted))
            if self.ended is not None:
                answer["executionTime"] = round(1000 * (self.ended - self.dispatched))
        if self.dispatches > 1:
            answer["retries"] = self.dispatches - 1
        said = {"workerId": self.worker, "output": self.output, "error": self.error}
        return answer | {name: value for name, value in said.items() if value is not None}
