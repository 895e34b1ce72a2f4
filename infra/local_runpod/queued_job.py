"""A job in the local queue: its input, status and timings, and the JSON that RunPod's API shows of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class QueuedJobStatus(StrEnum):
    """RunPod's names for a job's status."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def terminal(self) -> bool:
        """Whether a job keeps this status unless a client retries the job."""
        return self not in (QueuedJobStatus.IN_QUEUE, QueuedJobStatus.IN_PROGRESS)


class UnknownJob(LookupError):
    """The queue has no such job: it was never submitted here, or has expired."""


class NotRetryable(ValueError):
    """The job is neither failed nor timed out, so a client cannot retry it."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """A job's time limits in seconds: `execution` counts from its dispatch, `ttl` from its submission."""

    execution: float = 600.0
    ttl: float = 86_400.0


@dataclass(slots=True, eq=False)
class QueuedJob:
    """One job. Times are seconds of the queue's clock, sizes are bytes of JSON."""

    id: str
    input: Any
    input_size: int
    limits: TimeLimits
    retention: float  # s for which an ended job is kept
    submitted: float
    status: QueuedJobStatus = QueuedJobStatus.IN_QUEUE
    worker: str | None = None
    dispatches: int = 0
    dispatched: float | None = None
    last_ping: float = 0.0  # or the dispatch, if the worker has not pinged since
    ended: float | None = None
    output: Any = None
    output_size: int = 0
    error: Any = None

    @property
    def size(self) -> int:
        """Roughly the memory that the job takes."""
        return self.input_size + self.output_size

    def dispatch_json(self) -> dict[str, Any]:
        """The job as a worker receives it. Like RunPod, without an empty input."""
        return {"id": self.id, **({"input": self.input} if self.input else {})}

    def status_json(self) -> dict[str, Any]:
        """The job as /status shows it: only the fields that have a value; times in milliseconds."""
        shown: dict[str, Any] = {"id": self.id, "status": self.status.value}
        if self.dispatched is not None:
            shown["delayTime"] = round(1000 * (self.dispatched - self.submitted))
            if self.ended is not None:
                shown["executionTime"] = round(1000 * (self.ended - self.dispatched))
        if self.dispatches > 1:
            shown["retries"] = self.dispatches - 1
        optional = {"workerId": self.worker, "output": self.output, "error": self.error}
        return shown | {name: value for name, value in optional.items() if value is not None}
