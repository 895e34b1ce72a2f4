"""A job that has ended: its clip, or an error that says whether submitting it again may help."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import assert_never

from pydantic import ValidationError

from narration.contract import RETRYABLE_CODES, ErrorCode, SynthesisResult
from narration.endpoint.jobs import Health, Job, JobResult, JobStatus
from narration.endpoint.messages import error_reason, one_line
from narration.errors import (
    BadResult,
    EndpointError,
    EndpointUnavailable,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
)

_CHECK_VOICE = "check the voice with `narrate voice check`"
_REMEDIES: Mapping[str, str] = {
    ErrorCode.MODEL_MISMATCH: "set NARRATION_MODEL to the worker's model id, or deploy another worker",
    ErrorCode.REQUEST_TOO_LONG: "lower NARRATION_CHUNK_CHARACTERS or give a shorter voice sample",
    ErrorCode.TRANSCRIPT_MISSING: "give the voice a transcript",
    ErrorCode.SAMPLE_REFUSED: "give the voice by a public http(s) address or from the store",
    ErrorCode.SAMPLE_UNREACHABLE: "check that the worker can reach the voice sample",
    ErrorCode.SAMPLE_TOO_LARGE: _CHECK_VOICE,
    ErrorCode.SAMPLE_DIGEST_MISMATCH: "the sample changed since it was imported: add the voice again",
    ErrorCode.SAMPLE_NOT_AUDIO: _CHECK_VOICE,
    ErrorCode.SAMPLE_TOO_SHORT: _CHECK_VOICE,
    ErrorCode.SAMPLE_TOO_LONG: _CHECK_VOICE,
    ErrorCode.SAMPLE_SILENT: _CHECK_VOICE,
    ErrorCode.SPEECH_SERVER_REFUSED: "correct the worker's settings WORKER_SPEECH_*, then start it again",
}


def result_of(job: Job) -> JobResult:
    """The clip of a job that has ended.

    Raises `BadResult` for an output outside the contract, `JobFailed` for a failure of the worker or
    of the platform, `JobLost` for a job that completed without output, `JobTimedOut`,
    `JobCancelled`; `ValueError` for a job that has not ended. Every error has the job's
    `execution_ms`, which is paid for all the same.

    `audio` is not decoded here: `narration.audio.files` does that once, and checks it then.
    """
    try:
        return _clip_or_error(job)
    except EndpointError as error:
        error.execution_ms = job.execution_ms
        raise


def _clip_or_error(job: Job) -> JobResult:
    match job.status:
        case JobStatus.COMPLETED:
            return _clip(job)
        case JobStatus.FAILED:
            raise _failure(job)
        case JobStatus.TIMED_OUT:
            raise JobTimedOut(
                f"job {job.id} timed out at RunPod{_reason(job)}",
                remedy="no worker took the job in time, or its worker never reported",
            )
        case JobStatus.CANCELLED:
            raise JobCancelled(f"job {job.id} was cancelled at the endpoint")
        case JobStatus.IN_QUEUE | JobStatus.IN_PROGRESS | JobStatus.RUNNING | JobStatus.UNKNOWN:
            raise ValueError(f"job {job.id} has not ended: {job.status}")
        case _:  # pragma: no cover
            assert_never(job.status)


def _clip(job: Job) -> JobResult:
    output = job.output
    if output is None:
        # RunPod keeps the status COMPLETED when it refuses the result itself (too large, posted too late).
        raise JobLost(f"job {job.id} completed without an output{_reason(job)}")
    if not isinstance(output, dict):
        kind = type(output).__name__
        raise BadResult(f"job {job.id}: the output is not an object but a {kind}")
    if output.get("error"):
        raise _failure(job)
    try:
        result = SynthesisResult.model_validate(output)
    except ValidationError as error:
        raise BadResult(f"job {job.id}: the output is not a clip: {_first_problem(error)}") from None
    try:
        audio = binascii.a2b_base64(result.audio_base64, strict_mode=True)
    except ValueError as error:
        raise BadResult(f"job {job.id}: audio_base64 cannot be decoded: {error}") from None
    return JobResult(result, audio, job.id, job.delay_ms, job.execution_ms, job.retries, job.worker_id)


def _failure(job: Job) -> JobFailed:
    """The worker's failure with its code, if it sent one; otherwise the platform's, which is retryable.

    RunPod's SDK moves `error` from the handler's output to the job and leaves the rest in `output`.
    """
    output = job.output if isinstance(job.output, dict) else {}
    reason = error_reason(output.get("error")) or job.error or "no reason given"
    code = output.get("error_code")
    if not isinstance(code, str) or not code:
        return JobFailed(f"job {job.id} failed: {reason}", retryable=True)
    code = one_line(code, 60)
    retryable = output.get("retryable")
    return JobFailed(
        f"job {job.id} failed: {reason} [{code}]",
        code=code,
        remedy=_REMEDIES.get(code, ""),
        retryable=retryable if isinstance(retryable, bool) else code in RETRYABLE_CODES,
    )


def deadline_error(job: Job, seconds: float, health: Health | None) -> EndpointUnavailable:
    """The error for a job that has not ended after `seconds`; `health` says why it is still queued."""
    message = f"job {job.id} has not ended after {seconds:g} s: {job.status}"
    if health is None:
        return EndpointUnavailable(message, remedy="look at the endpoint's workers and their logs")
    workers = health.workers
    counts = ", ".join(f"{count} {state}" for state, count in workers if count) or "none"
    if workers.unhealthy:
        remedy = "a worker does not start: read its log"
    elif workers.throttled:
        remedy = "no GPU of the chosen types is free: allow the endpoint more GPU types or data centres"
    elif counts == "none":
        remedy = "raise the endpoint's max workers: RunPod sets it to 0 after a week without jobs"
    else:
        remedy = "raise the endpoint's max workers, or lower NARRATION_CONCURRENCY"
    return EndpointUnavailable(f"{message}; its workers: {counts}", remedy=remedy)


def _reason(job: Job) -> str:
    return f": {job.error}" if job.error else ""


def _first_problem(error: ValidationError) -> str:
    """The first field that is wrong and why, never its value, which may be megabytes."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part)[:60] for part in first["loc"]) or "output"
    return one_line(f"{field}: {first['msg']}")
