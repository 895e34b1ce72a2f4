"""The client of RunPod's management API: what an endpoint is and may become, not its jobs.

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
from narration.errors import EndpointError, EndpointRefused, EndpointUnavailable, SettingsError

MANAGEMENT_URL = "https://api.runpod.io/v2"
TRIES = 4
LONGEST_PAUSE = 60.0  # s; a minute is the longest window of RunPod's own rate limit
READ_SECONDS = 30.0

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What the management API says of an endpoint. Workers are counts, `timeout` seconds a job."""

    id: str
    name: str
    min_workers: int
    max_workers: int
    timeout: float

    @property
    def closed(self) -> bool:
        """Whether no worker may start: by choice, or by RunPod after seven days without a request."""
        return self.max_workers == 0


class _Scale(BaseModel):
    min: Count = 0
    max: Count = 0


class _Shown(BaseModel):
    """An endpoint as the API shows it; `timeout` in milliseconds."""

    name: str = ""
    workers: _Scale
    timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Management:
    """RunPod's management API for one account.

    Every call raises `EndpointRefused` when the API says no, with its words, and
    `EndpointUnavailable` when it cannot be had for a while. The key appears in neither.
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
                "RUNPOD_MANAGEMENT_KEY is no key", remedy="copy it again from RunPod's console"
            )
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}", "Accept": "application/json"},
            timeout=READ_SECONDS,
            follow_redirects=False,  # the key is for this host alone
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def read(self, path: str) -> Document:
        """The document at `path`."""
        return self._send("GET", path)

    def create(self, path: str, body: Mapping[str, object]) -> Document:
        """Add `body` to the collection at `path`; the new thing as the API made it."""
        return self._send("POST", path, body)

    def change(self, path: str, body: Mapping[str, object]) -> Document:
        """Set the fields in `body` on the thing at `path`, leaving its others; the whole thing after it."""
        return self._send("PATCH", path, body)

    def _send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Document:
        for tries_left in reversed(range(TRIES)):
            # The errors of httpx carry the request and with it the key: none travels on as a cause.
            try:
                response = self._client.request(method, MANAGEMENT_URL + path, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble, asked, acted = f"no connection: {type(error).__name__}", None, False
            except httpx.HTTPError as error:
                trouble, asked, acted = f"no answer: {type(error).__name__}", None, True
            else:
                if response.status_code != HTTPStatus.TOO_MANY_REQUESTS and response.status_code < 500:
                    return self._document(response, path)
                trouble, asked = self._said(response), retry_after(response.headers)
                acted = response.status_code != HTTPStatus.TOO_MANY_REQUESTS
            if acted and method == "POST":
                raise EndpointUnavailable(
                    f"the answer to creating at {path} was lost: {trouble}",
                    remedy="run again: what was made is found by its name",
                )
            if tries_left:
                pause = 2.0 ** (TRIES - 1 - tries_left) if asked is None else asked
                self._sleep(min(pause, LONGEST_PAUSE))
        raise EndpointUnavailable(
            f"RunPod's management API cannot be had: {trouble}", remedy="try again later"
        )

    def _document(self, response: httpx.Response, path: str) -> Document:
        if not response.is_success:
            raise EndpointRefused(
                f"RunPod refused {path}: {self._said(response)}", remedy=_remedy(response.status_code)
            )
        try:
            document = from_json(response.content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise EndpointError(f"RunPod's answer for {path} is no JSON object")
        return document

    def _said(self, response: httpx.Response) -> str:
        """Status and problem in one line: title, detail and each validation failure."""
        try:
            problem = from_json(response.content)
        except ValueError:
            problem = {}
        parts: list[object] = []
        if isinstance(problem, dict):
            details = problem.get("errors")
            details = details if isinstance(details, list) else []
            parts = [problem.get("detail") or problem.get("title") or "", *details]
        words = one_line("; ".join(str(part) for part in parts if part)).replace(self._key, "[key]")
        return f"HTTP {response.status_code}{words and f': {words}'}"


def endpoint_state(
    endpoint_id: str, key: str, *, transport: httpx.BaseTransport | None = None
) -> EndpointState:
    """What the management API says of the endpoint. Raises as `Management` does."""
    with Management(key, transport=transport) as management:
        document = management.read(f"/serverless/{endpoint_id}")
    try:
        shown = _Shown.model_validate(document)
    except ValidationError:
        raise EndpointError("RunPod's answer does not describe an endpoint") from None
    return EndpointState(
        id=endpoint_id,
        name=shown.name,
        min_workers=shown.workers.min,
        max_workers=shown.workers.max,
        timeout=shown.timeout / 1000,
    )


def _remedy(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return "check RUNPOD_MANAGEMENT_KEY: the key is wrong, expired or revoked"
        case HTTPStatus.FORBIDDEN:
            return "give RUNPOD_MANAGEMENT_KEY the right to manage serverless endpoints"
        case HTTPStatus.NOT_FOUND:
            return "check the id: there is no such thing in this account"
        case _:
            return ""
