"""RunPod's job API for clients: run, runsync, status, cancel, retry, purge-queue, health."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.local_runpod.change_notifier import ChangeNotifier
from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.json_bodies import (
    LenientJsonResponse,
    NotJson,
    TooLarge,
    error_response,
    read_json_object,
)
from infra.local_runpod.queued_job import NotRetryable, QueuedJob, TimeLimits, UnknownJob

RUN_BYTES = 10_000_000  # of a request to /run, at most
RUNSYNC_BYTES = 20_000_000
DEFAULT_WAIT = 90_000  # ms
WAIT_RANGE = (1_000, 300_000)  # ms
EXECUTION_RANGE = (5_000, 604_800_000)  # ms, of policy.executionTimeout
TTL_RANGE = (10_000, 604_800_000)  # ms, of policy.ttl

_Handler = Callable[[Request], Awaitable[Response]]


class ClientApi:
    """The routes for clients of one endpoint, each of which requires the endpoint's key."""

    def __init__(self, queue: JobQueue, notifier: ChangeNotifier, *, endpoint_id: str, api_key: str) -> None:
        self._queue = queue
        self._notifier = notifier
        self._endpoint_id = endpoint_id
        self._api_key = api_key

    def routes(self) -> list[Route]:
        """The routes; each checks the key and the endpoint's id first."""
        handlers: list[tuple[str, str, _Handler]] = [
            ("POST", "run", self._run),
            ("POST", "runsync", self._runsync),
            ("GET", "status/{job}", self._status),
            ("POST", "cancel/{job}", self._cancel),
            ("POST", "retry/{job}", self._retry),
            ("POST", "purge-queue", self._purge),
            ("GET", "health", self._health),
        ]
        return [
            Route(f"/v2/{{endpoint}}/{path}", self._checked(handler), methods=[method])
            for method, path, handler in handlers
        ]

    def _checked(self, handler: _Handler) -> _Handler:
        async def check_and_handle(request: Request) -> Response:
            key = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(key.encode(), self._api_key.encode()):
                return error_response(401, "unauthorized")
            if request.path_params["endpoint"] != self._endpoint_id:
                return PlainTextResponse("endpoint not found", status_code=404)
            try:
                return await handler(request)
            except UnknownJob:
                return error_response(404, "job not found")
            except TooLarge as error:
                return error_response(413, str(error))
            except (NotJson, NotRetryable, _BadRequest) as error:
                return error_response(400, str(error))

        return check_and_handle

    async def _run(self, request: Request) -> Response:
        job = await self._submit(request, limit=RUN_BYTES, sync=False)
        return _id_and_status(job)

    async def _runsync(self, request: Request) -> Response:
        wait = _wait(request)
        job = await self._submit(request, limit=RUNSYNC_BYTES, sync=True)
        await self._notifier.wait_for(lambda: job.status.terminal or None, request, seconds=wait / 1000)
        return LenientJsonResponse(job.status_json())

    async def _status(self, request: Request) -> Response:
        return LenientJsonResponse(self._queue.get(request.path_params["job"]).status_json())

    async def _cancel(self, request: Request) -> Response:
        return _id_and_status(self._queue.cancel(request.path_params["job"]))

    async def _retry(self, request: Request) -> Response:
        return _id_and_status(self._queue.retry(request.path_params["job"]))

    async def _purge(self, _request: Request) -> Response:
        return LenientJsonResponse({"removed": self._queue.purge(), "status": "completed"})

    async def _health(self, _request: Request) -> Response:
        return LenientJsonResponse(self._queue.health())

    async def _submit(self, request: Request, *, limit: int, sync: bool) -> QueuedJob:
        body, size = await read_json_object(request, limit)
        return self._queue.submit(
            body.get("input"), size=size, limits=_time_limits(body.get("policy")), sync=sync
        )


class _BadRequest(ValueError):
    pass


def _id_and_status(job: QueuedJob) -> LenientJsonResponse:
    return LenientJsonResponse({"id": job.id, "status": job.status.value})


def _time_limits(policy: object) -> TimeLimits:
    """The limits in a submission's `policy`; without one, RunPod's defaults."""
    default = TimeLimits()
    if policy is None:
        return default
    if not isinstance(policy, dict):
        raise _BadRequest("policy is not an object")
    return TimeLimits(
        execution=_limit(policy, "executionTimeout", default.execution, EXECUTION_RANGE),
        ttl=_limit(policy, "ttl", default.ttl, TTL_RANGE),
    )


def _limit(policy: dict[str, Any], name: str, default: float, span: tuple[int, int]) -> float:
    """One limit of a policy, which is in milliseconds, in seconds."""
    value = policy.get(name)
    if value is None:
        return default
    if type(value) is not int or not span[0] <= value <= span[1]:
        raise _BadRequest(f"policy.{name} is invalid; must be between {span[0]} and {span[1]}")
    return value / 1000


def _wait(request: Request) -> int:
    """How long a runsync request waits for its job to end, in milliseconds."""
    wait = request.query_params.get("wait", str(DEFAULT_WAIT))
    if not (wait.isascii() and wait.isdigit() and WAIT_RANGE[0] <= int(wait[:9]) <= WAIT_RANGE[1]):
        raise _BadRequest(f"wait is invalid; must be between {WAIT_RANGE[0]} and {WAIT_RANGE[1]}")
    return int(wait)
