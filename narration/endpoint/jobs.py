"""A RunPod job as the job API describes it: id, status, policy, result; and the endpoint's health counts.

Source: RunPod's documentation of serverless endpoints (job states, operation reference).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, TypeGuard

from pydantic import BaseModel, ConfigDict, Field

from narration.contract import SynthesisResult
from narration.endpoint.messages import error_reason, one_line
from narration.errors import SettingsError

WEEK_SECONDS = 7 * 86_400.0
MIN_EXECUTION_SECONDS = 5.0
MIN_TTL_SECONDS = 10.0

_MAX_NUMBER = 1e15  # ms, or retries; JSON has integers that no float can hold
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,255}")


class JobStatus(StrEnum):
    """RunPod's names for a job's status. Any other name is read as `UNKNOWN`, which is not terminal."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus:  # noqa: ARG003  # any unknown name
        return cls.UNKNOWN

    @property
    def terminal(self) -> bool:
        """Whether the job has ended: its status will not change any more."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Job:
    """A job's status at one moment.

    `output` is the worker's final output; output shown while the job runs is dropped, so that
    progress is never taken for a result. `error` is a single line, without traceback. `delay_ms`
    counts from submission to the latest start (again, after one of `retries` re-dispatches by the
    platform), `execution_ms` from there to the end; None where RunPod does not say.
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
    """How long a job may take, sent with its submission.

    `execution_timeout_seconds` limits its execution, 5 s to 7 days; `ttl_seconds` its whole life
    from submission, queue included, 10 s to 7 days, after which RunPod deletes it even while it
    runs. Raises `SettingsError` outside RunPod's ranges.
    """

    execution_timeout_seconds: float = 600.0
    ttl_seconds: float = 7_200.0

    def __post_init__(self) -> None:
        _check_range("a job's execution timeout", self.execution_timeout_seconds, MIN_EXECUTION_SECONDS)
        _check_range("a job's time to live", self.ttl_seconds, MIN_TTL_SECONDS)

    def to_json(self) -> dict[str, int]:
        """The `policy` object of a submission, in milliseconds."""
        return {
            "executionTimeout": round(self.execution_timeout_seconds * 1000),
            "ttl": round(self.ttl_seconds * 1000),
        }


def _check_range(setting: str, seconds: float, least: float) -> None:
    if not least <= seconds <= WEEK_SECONDS:  # NaN fails this too
        raise SettingsError(f"{setting} of {seconds:g} s is outside {least:g} s to 7 days")


@dataclass(frozen=True, slots=True)
class JobResult:
    """A completed job's clip. `audio` is the encoded audio file; times are in milliseconds."""

    result: SynthesisResult = field(repr=False)  # megabytes of base64
    audio: bytes = field(repr=False)
    job_id: str
    delay_ms: float | None = None
    execution_ms: float | None = None
    retries: int = 0
    worker_id: str = ""

    @property
    def slot_ms(self) -> float | None:
        """`execution_ms` without the job's wait for a slot in the worker, whose slots share its price."""
        if self.execution_ms is None:
            return None
        return max(0.0, self.execution_ms - 1000 * max(0.0, self.result.timings.queue))


Count = Annotated[int, Field(ge=0)]


class JobCounts(BaseModel):
    """An endpoint's number of jobs by state."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    completed: Count = 0
    failed: Count = 0
    in_progress: Count = Field(default=0, alias="inProgress")
    in_queue: Count = Field(default=0, alias="inQueue")
    retried: Count = 0


class WorkerCounts(BaseModel):
    """An endpoint's number of workers by state. A worker may be counted in two states at once."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    idle: Count = 0
    initializing: Count = 0
    ready: Count = 0
    running: Count = 0
    throttled: Count = 0
    unhealthy: Count = 0


class Health(BaseModel):
    """The response to /health. A count that is left out is zero."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    jobs: JobCounts = JobCounts()
    workers: WorkerCounts = WorkerCounts()


def is_job_id(value: object) -> TypeGuard[str]:
    """Whether `value` may be a job's id, which becomes part of a URL's path."""
    return isinstance(value, str) and _JOB_ID.fullmatch(value) is not None


def parse_job(job_id: str, response: Mapping[str, object]) -> Job:
    """Read the job `job_id` from a response to /status; raises `ValueError` if it has no status."""
    status_name = response.get("status")
    if not isinstance(status_name, str):
        raise ValueError("the response has no job status")  # noqa: TRY004  # a bad response, not a bad argument
    status = JobStatus(status_name)
    retries = _number(response.get("retries"))
    worker = response.get("workerId")
    return Job(
        id=job_id,
        status=status,
        output=response.get("output") if status.terminal else None,
        error=error_reason(response.get("error")),
        delay_ms=_number(response.get("delayTime")),
        execution_ms=_number(response.get("executionTime")),
        retries=int(retries or 0),
        worker_id=one_line(worker, 100) if isinstance(worker, str) else "",
    )


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value <= _MAX_NUMBER else None
