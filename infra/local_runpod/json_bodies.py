"""JSON in and out: a request's body read within a limit, and answers that can carry what was read."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse


class TooLarge(ValueError):
    """A body over its limit."""


class NotJson(ValueError):
    """A body that is not a JSON object."""


async def json_object(request: Request, limit: int) -> tuple[dict[str, Any], int]:
    """The body as a JSON object, and its size in bytes. Raises `TooLarge` and `NotJson`."""
    body = bytearray()
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= limit:  # what is beyond is read too, so that the sender comes to read the answer
                body += part
    except ClientDisconnect:
        raise NotJson("the client left in the middle of the body") from None
    if size > limit:
        raise TooLarge(f"the body has {size} bytes, over {limit}")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise NotJson("the body is not JSON") from None
    if not isinstance(value, dict):
        raise NotJson("the body is not a JSON object")
    return value, size


class LenientJsonResponse(JSONResponse):
    """What Python reads as JSON, lone surrogates and infinite numbers too, it also writes."""

    def render(self, content: Any) -> bytes:
        """ASCII, all else escaped: a job that cannot be handed over would take its batch with it."""
        return json.dumps(content, separators=(",", ":")).encode()


def refusal(status: int, reason: str) -> LenientJsonResponse:
    """An error answer."""
    return LenientJsonResponse({"error": reason}, status_code=status)
