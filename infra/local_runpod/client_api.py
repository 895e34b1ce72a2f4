"""The job API as RunPod offers it to clients: run, runsync, status, cancel, retry, purge-queue, health."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.local_runpod.change_notifier import ChangeNotifier
from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.jobs import NotRetryable, Policy, QueuedJob, UnknownJob
from infra.local_runpod.json_bodies import LenientJsonResponse, NotJson, TooLarge, json_object, refusal

RUN_BYTES = 10_000_000
RUNSYNC_BYTES = 20_000_000
DEFAULT_WAIT = 90_000  # ms
WAIT_RANGE = (1_000, 300_000)  # ms
EXECUTION_RANGE = (5_000, 604_800_000)  # ms, of policy.executionTimeout
LIFE_RANGE = (10_000, 604_800_000)  # ms, of policy.ttl

_Endpoint = Callable[[Request], Awaitable[Response]]


class ClientApi:
    """The routes of one endpoint, behind its key."""

    def __init__(self, queue: JobQueue, news: ChangeNotifier, *, endpoint_id: str, api_key: str) -> None:
        self._queue = queue
        self._news = news
        self._endpoint_id = endpoint_id
        self._api_key = api_key

    def routes(self) -> list[Route]:
        """Every route, each checking key and endpoint first."""
        offered: list[tuple[str, str, _Endpoint]] = [
            ("POST", "run", self._run),
            ("POST", "runsync", self._runsync),
            ("GET", "status/{job}", self._status),
            ("POST", "cancel/{job}", self._cancel),
            ("POST", "retry/{job}", self._retry),
            ("POST", "purge-queue", self._purge),
            ("GET", "health", self._health),
        ]
        return [
            Route(f"/v2/{{endpoint}}/{path}", self._guarded(endpoint), methods=[method])
            for method, path, endpoint in offered
        ]

    def _guarded(self, endpoint: _Endpoint) -> _Endpoint:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._api_key.encode()):
                return refusal(401, "unauthorized")
            if request.path_params["endpoint"] != self._endpoint_id:
                return PlainTextResponse("endpoint not found", status_code=404)
            try:
                return await endpoint(request)
            except UnknownJob:
                return refusal(404, "job not found")
            except TooLarge as error:
                return refusal(413, str(error))
            except (NotJson, NotRetryable, _BadRequest) as error:
                return refusal(400, str(error))

        return guarded

    async def _run(self, request: Request) -> Response:
        job = await self._submit(request, limit=RUN_BYTES, sync=False)
        return _short(job)

    async def _runsync(self, request: Request) -> Response:
        wait = _wait(request)
        job = await self._submit(request, limit=RUNSYNC_BYTES, sync=True)
        await self._news.until(lambda: job.status.terminal or None, request, seconds=wait / 1000)
        return LenientJsonResponse(job.as_status())

    async def _status(self, request: Request) -> Response:
        return LenientJsonResponse(self._queue.get(request.path_params["job"]).as_status())

    async def _cancel(self, request: Request) -> Response:
        return _short(self._queue.cancel(request.path_params["job"]))

    async def _retry(self, request: Request) -> Response:
        return _short(self._queue.retry(request.path_params["job"]))

    async def _purge(self, _request: Request) -> Response:
        return LenientJsonResponse({"removed": self._queue.purge(), "status": "completed"})

    async def _health(self, _request: Request) -> Response:
        return LenientJsonResponse(self._queue.health())

    async def _submit(self, request: Request, *, limit: int, sync: bool) -> QueuedJob:
        body, size = await json_object(request, limit)
        return self._queue.submit(body.get("input"), size=size, policy=_policy(body.get("policy")), sync=sync)


class _BadRequest(ValueError):
    pass


def _short(job: QueuedJob) -> LenientJsonResponse:
    return LenientJsonResponse({"id": job.id, "status": job.status.value})


def _policy(given: object) -> Policy:
    if given is None:
        return Policy()
    if not isinstance(given, dict):
        raise _BadRequest("policy is not an object")
    default = Policy()
    return Policy(
        execution=_limit(given, "executionTimeout", default.execution, EXECUTION_RANGE),
        life=_limit(given, "ttl", default.life, LIFE_RANGE),
    )


def _limit(policy: dict[str, Any], name: str, default: float, span: tuple[int, int]) -> float:
    """A limit of the policy in seconds, given in milliseconds."""
    value = policy.get(name)
    if value is None:
        return default
    if type(value) is not int or not span[0] <= value <= span[1]:
        raise _BadRequest(f"policy.{name} is invalid; must be between {span[0]} and {span[1]}")
    return value / 1000


def _wait(request: Request) -> int:
    """How long a runsync call may be held, in milliseconds."""
    given = request.query_params.get("wait", str(DEFAULT_WAIT))
    if not (given.isascii() and given.isdigit() and WAIT_RANGE[0] <= int(given[:9]) <= WAIT_RANGE[1]):
        raise _BadRequest(f"wait is invalid; must be between {WAIT_RANGE[0]} and {WAIT_RANGE[1]}")
    return int(given)
