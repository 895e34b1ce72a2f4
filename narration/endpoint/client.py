"""The client of one RunPod endpoint: submit a job, ask for its status, wait for its clip, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import httpx
from pydantic import ValidationError
from pydantic_core import to_json

from narration.contract import SynthesisRequest
from narration.endpoint.http_connection import HttpConnection, Limits
from narration.endpoint.job_results import deadline_error, result_of
from narration.endpoint.jobs import Health, Job, JobPolicy, JobResult, JobStatus, is_job_id, parse_job
from narration.endpoint.messages import one_line
from narration.endpoint.pending_cancellations import PendingCancellations
from narration.endpoint.polling import LAST_POLL_SECONDS, Deadline, JobPoller, OnStatus
from narration.endpoint.rate_limiter import RateLimiter
from narration.endpoint.retrying import TransientFailure, retry
from narration.errors import EndpointError, JobLost, SettingsError
from narration.settings import ASK_FOR_DRAFT, RUNPOD_URL, Settings


class Endpoint:
    """A RunPod serverless endpoint; use it as an asynchronous context manager, on one event loop.

    A call that fails for a reason that may pass (429, 5xx, no connection, no response, a response
    that is not JSON) is repeated with growing pauses for up to `limits.retry_seconds`, where
    repeating is harmless: status, health and cancelling always, submitting only while it is certain
    that no job was accepted (no connection, 429). RunPod has no idempotency key, so a submission
    whose response was lost raises `EndpointUnavailable` with `maybe_accepted` set, and the caller
    decides whether to risk paying for a second job.

    Every method raises `EndpointUnavailable` when repeating did not help and `EndpointRefused` when
    the endpoint refuses the call; the constructor raises `SettingsError`. No message contains the key.
    """

    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        *,
        base_url: str = RUNPOD_URL,
        transport: httpx.AsyncBaseTransport | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.endpoint_id = endpoint_id
        self._limits = limits or Limits()
        self._connection = HttpConnection(
            endpoint_id, api_key, base_url=base_url, transport=transport, limits=self._limits
        )
        # RunPod's limits in 10 s and at once: /run 1000, 200; /status 2000, 400; /cancel 100, 20. They
        # hold per user, who may run other clients too: half of them is enough to notice an ended job
        # in time. Cancelling is rare and urgent, and may use all of its limit.
        self._submit_limiter = RateLimiter(concurrent=32, per_second=40, burst=100)
        self._status_limiter = RateLimiter(concurrent=32, per_second=80, burst=200)
        self._cancel_limiter = RateLimiter(concurrent=16, per_second=8, burst=20)
        self._poller = JobPoller(self.status)
        self._cancellations = PendingCancellations(self._limits.cancellation_seconds)

    def __repr__(self) -> str:
        return f"Endpoint({self._connection.address})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cancellations.finish()
        await self._connection.close()

    async def run(self, request: SynthesisRequest, policy: JobPolicy) -> str:
        """Submit `request` and return the job's id.

        If the caller is cancelled while the response is on its way, the response is awaited all
        the same and the job cancelled, within `limits.cancellation_seconds`.
        """
        content = to_json({"input": request, "policy": policy.to_json()}, exclude_none=True)
        return await retry(
            lambda: self._submit(content),
            self._submit_limiter,
            seconds=self._limits.retry_seconds,
            idempotent=False,
        )

    async def status(self, job_id: str) -> Job:
        """The job's present status. Raises `JobLost` when the endpoint does not know the job (any more)."""
        path = _job_path("status", job_id)

        async def get_status() -> Job:
            response = await self._connection.send("GET", path)
            try:
                return parse_job(job_id, response.json_object())
            except ValueError as error:
                raise TransientFailure(str(error), maybe_applied=True) from None

        return await retry(get_status, self._status_limiter, seconds=self._limits.retry_seconds)

    async def result(
        self,
        job_id: str,
        *,
        deadline_seconds: float,
        on_status: OnStatus | None = None,
        cancel_unfinished: bool = False,
    ) -> JobResult:
        """Wait for a job's clip.

        `on_status` is called whenever status or retries differ from the poll before. Raises what
        `result_of` raises, `JobLost`, and `EndpointUnavailable` a few seconds after the deadline:
        the last poll starts when the deadline has come, so that a clip that was finished while this
        machine slept is still taken.

        With `cancel_unfinished`, for a job whose clip only this caller waits for, the job is
        cancelled at the endpoint when the deadline has come, when the caller is cancelled and when
        `on_status` raises. When the endpoint is unavailable, the job is left running: a later call
        may still take its clip.
        """
        deadline = Deadline.after(deadline_seconds)
        return await self._wait(job_id, deadline, on_status, cancel_unfinished=cancel_unfinished)

    async def synthesize(
        self,
        request: SynthesisRequest,
        policy: JobPolicy,
        *,
        deadline_seconds: float,
        on_submitted: Callable[[str], Awaitable[None]],
        on_status: OnStatus | None = None,
    ) -> JobResult:
        """Submit `request`, await `on_submitted(job_id)`, and wait for the clip as `result` does.

        The job is cancelled if it is not finished, and if `on_submitted` raises: a job that was not
        recorded cannot be found again.
        """
        deadline = Deadline.after(deadline_seconds)
        job_id = await self.run(request, policy)
        try:
            await on_submitted(job_id)
        except BaseException:
            await self._cancellations.run(self.cancel(job_id))
            raise
        return await self._wait(job_id, deadline, on_status, cancel_unfinished=True, just_submitted=True)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job. A job that has ended or is unknown, or a second cancellation, is no error."""

        async def send_cancellation() -> None:
            response = await self._connection.send("POST", _job_path("cancel", job_id))
            if not response.nothing_to_cancel:
                response.raise_for_status()

        with suppress(JobLost):
            await retry(send_cancellation, self._cancel_limiter, seconds=self._limits.brief_retry_seconds)

    async def health(self) -> Health:
        """Counts of the endpoint's jobs and workers."""

        async def get_health() -> Health:
            response = await self._connection.send("GET", "/health")
            try:
                return Health.model_validate(response.json_object())
            except ValidationError:
                raise TransientFailure("the response is not a health report", maybe_applied=True) from None

        return await retry(get_health, self._status_limiter, seconds=self._limits.brief_retry_seconds)

    async def _submit(self, content: bytes) -> str:
        """POST /run, finished even if the caller is cancelled: an accepted job is paid for."""
        sending = asyncio.create_task(self._send_submission(content))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await self._cancellations.run(self._cancel_submitted(sending))
            raise

    async def _send_submission(self, content: bytes) -> str:
        response = await self._connection.send("POST", "/run", content)
        job_id = response.json_object().get("id")
        if not is_job_id(job_id):
            raise TransientFailure("the response to the submission has no job id", maybe_applied=True)
        return job_id

    async def _cancel_submitted(self, sending: asyncio.Task[str]) -> None:
        await self.cancel(await sending)

    async def _wait(
        self,
        job_id: str,
        deadline: Deadline,
        on_status: OnStatus | None,
        *,
        cancel_unfinished: bool,
        just_submitted: bool = False,
    ) -> JobResult:
        try:
            job = await self._poller.poll_until_ended(
                job_id, deadline, on_status, just_submitted=just_submitted
            )
        except EndpointError:
            raise
        except BaseException:
            if cancel_unfinished:
                await self._cancellations.run(self.cancel(job_id))
            raise
        if job.status.terminal:
            return result_of(job)
        if cancel_unfinished:
            await self._cancellations.run(self.cancel(job_id))
        health = await self._health_now() if job.status is JobStatus.IN_QUEUE else None
        raise deadline_error(job, deadline.seconds, health)

    async def _health_now(self) -> Health | None:
        """The endpoint's health, None if it cannot be had within seconds."""
        with suppress(EndpointError, TimeoutError):
            async with asyncio.timeout(LAST_POLL_SECONDS):
                return await self.health()
        return None


def open_endpoint(settings: Settings) -> Endpoint:
    """The endpoint that `settings` name; raises `SettingsError` if they do not name a usable one."""
    if settings.engine_in_use() == "draft" and settings.runpod_url == RUNPOD_URL:
        raise SettingsError(
            "RunPod's endpoint has no draft voice",
            remedy="start `python -m infra.local_runpod` and set NARRATION_RUNPOD_URL to its address",
        )
    if settings.endpoint_id is None:
        raise SettingsError(
            "RUNPOD_HIGGS_ENDPOINT_ID is not set", remedy=f"set it to the endpoint's id, or {ASK_FOR_DRAFT}"
        )
    if settings.runpod_api_key is None:
        raise SettingsError("RUNPOD_API_KEY is not set", remedy="set a key that may use this endpoint")
    return Endpoint(
        settings.endpoint_id, settings.runpod_api_key.get_secret_value(), base_url=settings.runpod_url
    )


def _job_path(operation: str, job_id: str) -> str:
    """The path of a call about a job; raises `JobLost` for an id that would lead to another path."""
    if not is_job_id(job_id):
        raise JobLost(f"{one_line(job_id, 60)!r} is not a job's id")
    return f"/{operation}/{job_id}"
