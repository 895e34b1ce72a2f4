"""The client of RunPod's management API, which describes and changes endpoints, but knows no jobs.

REST v2, whose errors are RFC 9457 problems. It takes a key of its own, RUNPOD_MANAGEMENT_KEY:
the key that submits jobs should not be able to change what they cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Annotated, Self

import httpx
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from narration.endpoint.jobs import Count
from narration.endpoint.messages import one_line
from narration.endpoint.responses import retry_after
from narration.endpoint.retrying import TransientFailure
from narration.errors import EndpointError, EndpointRefused, EndpointUnavailable, SettingsError

MANAGEMENT_URL = "https://api.runpod.io/v2"
MAX_TRIES = 4
LONGEST_PAUSE = 60.0  # s; a minute is the longest window of RunPod's own rate limit
READ_SECONDS = 30.0

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class EndpointState:
    """An endpoint as the management API describes it. Workers are counts, `timeout` seconds a job."""

    id: str
    name: str
    min_workers: int
    max_workers: int
    timeout: float

    @property
    def closed(self) -> bool:
        """Whether no worker may start: by choice, or by RunPod after seven days without a request."""
        return self.max_workers == 0


class _WorkerLimits(BaseModel):
    min: Count = 0
    max: Count = 0


class _EndpointDescription(BaseModel):
    """The fields of an endpoint that are read from the API's response; `timeout` in milliseconds."""

    name: str = ""
    workers: _WorkerLimits
    timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ManagementApi:
    """RunPod's management API for one account.

    A call that fails for a reason that may pass is made up to `MAX_TRIES` times, except for a
    creation whose response was lost. Every call raises `EndpointRefused` with the API's reason when
    the API refuses, and `EndpointUnavailable` when repeating did not help. No message contains the key.
    """

    def __init__(
        self,
        key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key = key.strip()
        self._sleep = sleep
        if not self._key or not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise SettingsError(
                "RUNPOD_MANAGEMENT_KEY is not a key", remedy="copy it again from RunPod's console"
            )
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}", "Accept": "application/json"},
            timeout=READ_SECONDS,
            follow_redirects=False,  # the key must reach this host only
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def read(self, path: str) -> JsonObject:
        """The object at `path`."""
        return self._call("GET", path)

    def create(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Add `body` to the collection at `path`; returns the new object as the API made it."""
        return self._call("POST", path, body)

    def update(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Set the fields in `body` on the object at `path`, leaving its others; returns the whole object."""
        return self._call("PATCH", path, body)

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> JsonObject:
        for tries in range(1, MAX_TRIES + 1):
            try:
                return self._send(method, path, body)
            except TransientFailure as error:
                failure = error
            if failure.maybe_applied and method == "POST":
                raise EndpointUnavailable(
                    f"the response to creating an object at {path} was lost: {failure}",
                    remedy="run again: an object that was created is found by its name",
                )
            if tries < MAX_TRIES:
                pause = 2.0 ** (tries - 1) if failure.retry_after is None else failure.retry_after
                self._sleep(min(pause, LONGEST_PAUSE))
        raise EndpointUnavailable(
            f"RunPod's management API is unavailable: {failure}", remedy="try again later"
        )

    def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> JsonObject:
        """One request; raises `TransientFailure` for a failure that may pass."""
        # The errors of httpx hold the request and with it the key, so none is kept as a cause.
        try:
            response = self._client.request(method, MANAGEMENT_URL + path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise TransientFailure(f"no connection: {type(error).__name__}", maybe_applied=False) from None
        except httpx.HTTPError as error:
            raise TransientFailure(f"no response: {type(error).__name__}", maybe_applied=True) from None
        rate_limited = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        if rate_limited or response.status_code >= 500:
            raise TransientFailure(
                self._explain(response),
                maybe_applied=not rate_limited,
                rate_limited=rate_limited,
                retry_after=retry_after(response.headers),
            )
        if not response.is_success:
            raise EndpointRefused(
                f"RunPod refused {path}: {self._explain(response)}", remedy=_remedy(response.status_code)
            )
        return _json_object(response, path)

    def _explain(self, response: httpx.Response) -> str:
        """The status and the problem's title, detail and validation failures, on one line."""
        try:
            problem = from_json(response.content)
        except ValueError:
            problem = {}
        parts: list[object] = []
        if isinstance(problem, dict):
            failures = problem.get("errors")
            failures = failures if isinstance(failures, list) else []
            parts = [problem.get("detail") or problem.get("title") or "", *failures]
        reason = one_line("; ".join(str(part) for part in parts if part)).replace(self._key, "[key]")
        return f"HTTP {response.status_code}{reason and f': {reason}'}"


def endpoint_state(
    endpoint_id: str, key: str, *, transport: httpx.BaseTransport | None = None
) -> EndpointState:
    """The endpoint's present limits by the management API. Raises as `ManagementApi` does."""
    with ManagementApi(key, transport=transport) as management:
        response = management.read(f"/serverless/{endpoint_id}")
    try:
        description = _EndpointDescription.model_validate(response)
    except ValidationError:
        raise EndpointError("RunPod's response does not describe an endpoint") from None
    return EndpointState(
        id=endpoint_id,
        name=description.name,
        min_workers=description.workers.min,
        max_workers=description.workers.max,
        timeout=description.timeout / 1000,
    )


def _json_object(response: httpx.Response, path: str) -> JsonObject:
    try:
        value = from_json(response.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise EndpointError(f"RunPod's response for {path} is not a JSON object")
    return value


def _remedy(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return "check RUNPOD_MANAGEMENT_KEY: the key is wrong, expired or revoked"
        case HTTPStatus.FORBIDDEN:
            return "give RUNPOD_MANAGEMENT_KEY the right to manage serverless endpoints"
        case HTTPStatus.NOT_FOUND:
            return "check the id: this account has no such object"
        case _:
            return ""
