"""RunPod's job, as its API tells of it: states, policy, what came out, and the endpoint's health.

Source: RunPod's documentation of serverless endpoints (job states, operation reference).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from narration.contract import SynthesisResult
from narration.endpoint.messages import error_reason, one_line
from narration.errors import SettingsError

WEEK_SECONDS = 7 * 86_400.0
MIN_EXECUTION_SECONDS = 5.0
MIN_TTL_SECONDS = 10.0

_MOST = 1e15  # ms, or retries; JSON has integers that no float can hold


class JobStatus(StrEnum):
    """Where a job stands. A word this client does not know is `UNKNOWN`, and not the end."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus:  # noqa: ARG003  # whatever it is
        return cls.UNKNOWN

    @property
    def terminal(self) -> bool:
        """Whether the job will not change any more."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Job:
    """One answer about a job.

    `output` is what the worker reported at the end; what it shows while running is not kept, so
    that progress is never taken for a result. `error` is a single line, without traceback.
    `delay_ms` counts from submission to the latest start (again, after one of `retries`
    re-dispatches by the platform), `execution_ms` from there to the end; None where not told.
    """

    id: str
    status: JobStatus
    output: object = field(default=None, repr=False)
    error: str = ""
    delay_ms: float | None = None
    execution_ms: float | None = None
    retries: int = 0
    worker_id: str = ""


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """How long the platform keeps at a job.

    `execution_timeout_seconds` bounds its running, 5 s to 7 days; `ttl_seconds` its whole life
    from submission, queue included, 10 s to 7 days, after which it is deleted even while it
    runs. Raises `SettingsError` outside RunPod's ranges.
    """

    execution_timeout_seconds: float = 600.0
    ttl_seconds: float = 7_200.0

    def __post_init__(self) -> None:
        _within("a job's execution timeout", self.execution_timeout_seconds, MIN_EXECUTION_SECONDS)
        _within("a job's time to live", self.ttl_seconds, MIN_TTL_SECONDS)

    def to_wire(self) -> dict[str, int]:
        """The `policy` of a submission, in milliseconds."""
        return {
            "executionTimeout": round(self.execution_timeout_seconds * 1000),
            "ttl": round(self.ttl_seconds * 1000),
        }


def _within(what: str, seconds: float, least: float) -> None:
    if not least <= seconds <= WEEK_SECONDS:  # NaN fails this too
        raise SettingsError(f"{what} of {seconds:g} s is outside {least:g} s to 7 days")


@dataclass(frozen=True, slots=True)
class JobResult:
    """A clip as the worker answered it. `audio` is the encoded file; times are in milliseconds."""

    result: SynthesisResult = field(repr=False)  # megabytes of base64
    audio: bytes = field(repr=False)
    job_id: str
    delay_ms: float | None = None
    execution_ms: float | None = None
    retries: int = 0
    worker_id: str = ""


Count = Annotated[int, Field(ge=0)]


class JobCounts(BaseModel):
    """Jobs of an endpoint by state."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    completed: Count = 0
    failed: Count = 0
    in_progress: Count = Field(default=0, alias="inProgress")
    in_queue: Count = Field(default=0, alias="inQueue")
    retried: Count = 0


class WorkerCounts(BaseModel):
    """Workers of an endpoint by state. A worker may be counted under two names at once."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    idle: Count = 0
    initializing: Count = 0
    ready: Count = 0
    running: Count = 0
    throttled: Count = 0
    unhealthy: Count = 0


class Health(BaseModel):
    """What an endpoint says of itself. What it leaves out counts as zero."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    jobs: JobCounts = JobCounts()
    workers: WorkerCounts = WorkerCounts()


def parse_job(job_id: str, document: Mapping[str, object]) -> Job:
    """Read one answer about the job `job_id`; raise `ValueError` when it names no status."""
    told = document.get("status")
    if not isinstance(told, str):
        raise ValueError("the answer names no status")  # noqa: TRY004  # of the answer, not of an argument
    status = JobStatus(told)
    retries = _number(document.get("retries"))
    worker = document.get("workerId")
    return Job(
        id=job_id,
        status=status,
        output=document.get("output") if status.terminal else None,
        error=error_reason(document.get("error")),
        delay_ms=_number(document.get("delayTime")),
        execution_ms=_number(document.get("executionTime")),
        retries=int(retries or 0),
        worker_id=one_line(worker, 100) if isinstance(worker, str) else "",
    )


def _number(value: object) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and 0 <= value <= _MOST else None  # type: ignore[arg-type, operator]  # mypy does not narrow through `plain`
