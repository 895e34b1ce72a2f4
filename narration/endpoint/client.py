"""The client of RunPod's job API: submit, look, wait, cancel; patient with trouble, never with refusals."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Self

import httpx
from pydantic import ValidationError
from pydantic_core import to_json

from narration.contract import SynthesisRequest
from narration.endpoint.http_connection import HttpConnection, Limits
from narration.endpoint.job_results import overdue, result_of
from narration.endpoint.jobs import Health, Job, JobPolicy, JobResult, JobStatus, parse_job
from narration.endpoint.messages import one_line
from narration.endpoint.pending_cancellations import PendingCancellations
from narration.endpoint.rate_limiter import PollInterval, RateLimiter
from narration.endpoint.retrying import TransientFailure, retry
from narration.errors import EndpointError, EndpointUnavailable, JobLost
from narration.settings import RUNPOD_URL

LAST_LOOK_SECONDS = 5.0  # for one more look at a job whose deadline has come

OnStatus = Callable[[Job], None]

# What RunPod answers about a job that has ended is not documented; none of these means "still running".
_NOTHING_TO_CANCEL = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE}
)
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,255}")


class Endpoint:
    """A RunPod serverless endpoint; use it as an asynchronous context manager, on one event loop.

    Trouble that may pass (429, 5xx, no connection, no answer, an answer that is no JSON) is
    repeated with growing pauses until `limits.patience_seconds` of it have gone by, where
    repeating is harmless: looking and cancelling always, submitting only while it is certain
    that nothing was accepted (no connection, 429). RunPod knows no idempotency key, so a
    submission whose answer was lost raises `EndpointUnavailable` with `maybe_accepted` set, and
    the caller decides whether to risk paying for a second job.

    Every method raises `EndpointUnavailable` when patience ends and `EndpointRefused` when the
    endpoint says no; constructing it raises `SettingsError`. No key is in any message.
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
        self._wire = HttpConnection(
            endpoint_id, api_key, base_url=base_url, transport=transport, limits=self._limits
        )
        # RunPod's limits in 10 s and at once: /run 1000, 200; /status 2000, 400; /cancel 100, 20. They
        # are a user's, who may have more than this client: half of them is enough to notice an end
        # within its time. Cancelling is rare and urgent, and may use all of its limit.
        self._submitting = RateLimiter(concurrent=32, per_second=40, burst=100)
        self._looking = RateLimiter(concurrent=32, per_second=80, burst=200)
        self._cancelling = RateLimiter(concurrent=16, per_second=8, burst=20)
        self._cadence = PollInterval()
        self._farewells = PendingCancellations(self._limits.farewell_seconds)

    def __repr__(self) -> str:
        return f"Endpoint({self._wire.address})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._farewells.finish()
        await self._wire.close()

    async def run(self, request: SynthesisRequest, policy: JobPolicy) -> str:
        """Submit `request`; return the job's id.

        A caller that is cancelled while the answer is on its way leaves no unknown job behind:
        the answer is awaited and the job cancelled, in bounded time.
        """
        content = to_json({"input": request, "policy": policy.to_wire()}, exclude_none=True)
        return await retry(
            lambda: self._submit(content),
            self._submitting,
            patience=self._limits.patience_seconds,
            harmless=False,
        )

    async def status(self, job_id: str) -> Job:
        """Look at a job once. Raises `JobLost` when the endpoint does not know it (any more)."""
        path = _job_path("status", job_id)

        async def look() -> Job:
            reply = await self._wire.send("GET", path)
            try:
                return parse_job(job_id, reply.document())
            except ValueError as error:
                raise TransientFailure(str(error), acted=True) from None

        return await retry(look, self._looking, patience=self._limits.patience_seconds)

    async def result(
        self, job_id: str, *, deadline_seconds: float, on_status: OnStatus | None = None
    ) -> JobResult:
        """Wait for a job's clip; the job goes on when the waiting ends.

        `on_status` is told whenever status or retries differ from the look before. Raises what
        `result_of` raises, `JobLost`, and `EndpointUnavailable` a few seconds after the deadline:
        the last look is taken when it has come, so that a machine that slept still finds its clip.
        """
        job = await self._watch(job_id, _now() + deadline_seconds, on_status)
        if not job.status.terminal:
            raise await self._overdue(job, deadline_seconds)
        return result_of(job)

    async def attend(
        self, job_id: str, *, deadline_seconds: float, on_status: OnStatus | None = None
    ) -> JobResult:
        """`result` for a job that is the caller's alone: nobody else may want its clip.

        It is cancelled at the endpoint when the deadline has come, and when the caller is
        cancelled or `on_status` raises. An outage leaves it running, for a later call to take up.
        """
        return await self._attend(job_id, _now() + deadline_seconds, deadline_seconds, on_status)

    async def synthesize(
        self,
        request: SynthesisRequest,
        policy: JobPolicy,
        *,
        deadline_seconds: float,
        on_submitted: Callable[[str], Awaitable[None]],
        on_status: OnStatus | None = None,
    ) -> JobResult:
        """Submit `request`, tell `on_submitted` the job's id, and `attend` the job.

        When `on_submitted` raises, the job is cancelled: what is not recorded cannot be found again.
        """
        deadline = _now() + deadline_seconds
        job_id = await self.run(request, policy)
        try:
            await on_submitted(job_id)
        except BaseException:
            await self._farewells.say(self.cancel(job_id))
            raise
        return await self._attend(job_id, deadline, deadline_seconds, on_status, fresh=True)

    async def cancel(self, job_id: str) -> None:
        """Cancel a job. One that has ended, or is not known, is fine; so is cancelling twice."""

        async def ask() -> None:
            reply = await self._wire.send("POST", _job_path("cancel", job_id))
            if reply.status not in _NOTHING_TO_CANCEL:
                reply.check()

        with suppress(JobLost):
            await retry(ask, self._cancelling, patience=self._limits.brief_patience_seconds)

    async def health(self) -> Health:
        """Jobs and workers of the endpoint, counted."""

        async def ask() -> Health:
            reply = await self._wire.send("GET", "/health")
            try:
                return Health.model_validate(reply.document())
            except ValidationError:
                raise TransientFailure("the answer is no health report", acted=True) from None

        return await retry(ask, self._looking, patience=self._limits.brief_patience_seconds)

    async def _submit(self, content: bytes) -> str:
        """POST /run, to its end even when the caller is cancelled meanwhile: a job unheard of is paid too."""
        sending = asyncio.create_task(self._send(content))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await self._farewells.say(self._disown(sending))
            raise

    async def _send(self, content: bytes) -> str:
        job_id = (await self._wire.send("POST", "/run", content)).document().get("id")
        if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
            raise TransientFailure("the answer to the submission holds no job id", acted=True)
        return job_id

    async def _disown(self, sending: asyncio.Task[str]) -> None:
        await self.cancel(await sending)

    async def _attend(
        self,
        job_id: str,
        deadline: float,
        seconds: float,
        on_status: OnStatus | None,
        *,
        fresh: bool = False,
    ) -> JobResult:
        try:
            job = await self._watch(job_id, deadline, on_status, fresh=fresh)
        except EndpointError:
            raise
        except BaseException:
            await self._farewells.say(self.cancel(job_id))
            raise
        if not job.status.terminal:
            await self._farewells.say(self.cancel(job_id))
            raise await self._overdue(job, seconds)
        return result_of(job)

    async def _watch(
        self, job_id: str, deadline: float, on_status: OnStatus | None, *, fresh: bool = False
    ) -> Job:
        """Look at the job until it has ended or the deadline has come; return the last look."""
        began = _now()
        job: Job | None = None
        while True:
            if job is not None or fresh:
                pause = self._cadence.wait(job, _now() - began)
                await asyncio.sleep(min(pause, max(0.0, deadline - _now())))
            left = max(0.0, deadline - _now())
            before = job
            try:
                async with asyncio.timeout(left + LAST_LOOK_SECONDS):
                    job = await self.status(job_id)
            except TimeoutError:
                return job or Job(job_id, JobStatus.UNKNOWN)
            if on_status and (before is None or (before.status, before.retries) != (job.status, job.retries)):
                on_status(job)
            if job.status.terminal:
                self._cadence.learn(job)
                return job
            if left == 0.0:
                return job

    async def _overdue(self, job: Job, seconds: float) -> EndpointUnavailable:
        """The error for a job that did not end in time, with what its workers say if it still waits."""
        health = None
        if job.status is JobStatus.IN_QUEUE:
            with suppress(EndpointError, TimeoutError):
                async with asyncio.timeout(LAST_LOOK_SECONDS):
                    health = await self.health()
        return overdue(job, seconds, health)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _job_path(call: str, job_id: str) -> str:
    """The path of a call about a job; an id that would lead elsewhere is no job's."""
    if not _JOB_ID.fullmatch(job_id):
        raise JobLost(f"{one_line(job_id, 60)!r} is not a job's id")
    return f"/{call}/{job_id}"
