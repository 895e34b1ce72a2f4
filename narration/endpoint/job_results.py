"""What became of a job: its clip, or the error that says whether trying again helps."""

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

_CHECK_VOICE = "see what `narrate voice check` says of the voice"
_REMEDIES: Mapping[str, str] = {
    ErrorCode.MODEL_MISMATCH: "set NARRATION_MODEL to the id the worker runs, or deploy the worker asked for",
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
}


def result_of(job: Job) -> JobResult:
    """The clip of a job that has ended.

    Raises `BadResult` for an output outside the contract, `JobFailed` for the worker's or the
    platform's failure, `JobLost` for a job completed without output, `JobTimedOut`,
    `JobCancelled`; `ValueError` for a job that has not ended.

    The container of `audio` is not looked into: `narration.audio.files` does that, once, when it decodes.
    Every error carries the job's `execution_ms`, which is paid all the same.
    """
    try:
        return _read(job)
    except EndpointError as error:
        error.execution_ms = job.execution_ms
        raise


def _read(job: Job) -> JobResult:
    match job.status:
        case JobStatus.COMPLETED:
            return _clip(job)
        case JobStatus.FAILED:
            raise _failure(job)
        case JobStatus.TIMED_OUT:
            raise JobTimedOut(
                f"job {job.id} was given up by the platform{_because(job)}",
                remedy="no worker took it in time, or the one that did never reported",
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
        # RunPod keeps the status of a result that it would not take (too large, posted too late).
        raise JobLost(f"job {job.id} completed without an output{_because(job)}")
    if not isinstance(output, dict):
        kind = type(output).__name__
        raise BadResult(f"job {job.id}: the output is no object but a {kind}")
    if output.get("error"):
        raise _failure(job)
    try:
        result = SynthesisResult.model_validate(output)
    except ValidationError as error:
        raise BadResult(f"job {job.id}: the output is not a clip: {_explain(error)}") from None
    try:
        audio = binascii.a2b_base64(result.audio_base64, strict_mode=True)
    except ValueError as error:
        raise BadResult(f"job {job.id}: audio_base64 cannot be decoded: {error}") from None
    return JobResult(result, audio, job.id, job.delay_ms, job.execution_ms, job.retries, job.worker_id)


def _failure(job: Job) -> JobFailed:
    """The worker's typed failure where there is one; otherwise the platform's, which may pass.

    RunPod's SDK takes `error` out of what the handler answers and leaves the rest in `output`.
    """
    answer = job.output if isinstance(job.output, dict) else {}
    said = error_reason(answer.get("error")) or job.error or "no reason given"
    code = answer.get("error_code")
    if not isinstance(code, str) or not code:
        return JobFailed(f"job {job.id} failed: {said}", retryable=True)
    code = one_line(code, 60)
    retryable = answer.get("retryable")
    return JobFailed(
        f"job {job.id} failed: {said} [{code}]",
        code=code,
        remedy=_REMEDIES.get(code, ""),
        retryable=retryable if isinstance(retryable, bool) else code in RETRYABLE_CODES,
    )


def overdue(job: Job, seconds: float, health: Health | None) -> EndpointUnavailable:
    """The error for a job that had not ended after `seconds`; `health` says why one still waits."""
    message = f"job {job.id} had not ended after {seconds:g} s: {job.status}"
    if health is None:
        return EndpointUnavailable(message, remedy="see the endpoint's workers and their logs")
    workers = health.workers
    counts = ", ".join(f"{count} {state}" for state, count in workers if count) or "none at all"
    if workers.unhealthy:
        remedy = "a worker does not start: read its logs"
    elif workers.throttled:
        remedy = "no GPU of the chosen kinds is free: allow the endpoint more kinds or data centres"
    elif counts == "none at all":
        remedy = "raise the endpoint's max workers: RunPod sets it to 0 after a week without jobs"
    else:
        remedy = "raise the endpoint's max workers, or lower NARRATION_CONCURRENCY"
    return EndpointUnavailable(f"{message}; its workers: {counts}", remedy=remedy)


def _because(job: Job) -> str:
    return f": {job.error}" if job.error else ""


def _explain(error: ValidationError) -> str:
    """Name field and reason, never the value: it may be megabytes."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part)[:60] for part in first["loc"]) or "output"
    return one_line(f"{field}: {first['msg']}")
