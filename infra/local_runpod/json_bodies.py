"""JSON bodies of the two APIs: a request's read within a size limit, a response's written without loss."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse


class TooLarge(ValueError):
    """A body over its size limit."""


class NotJson(ValueError):
    """A body that is not a JSON object."""


async def read_json_object(request: Request, limit: int) -> tuple[dict[str, Any], int]:
    """The body as a JSON object, and its size in bytes. Raises `TooLarge` above `limit`, and `NotJson`."""
    body = bytearray()
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= limit:  # the rest is read too: a sender that still sends does not read the response
                body += part
    except ClientDisconnect:
        raise NotJson("the client disconnected in the middle of the body") from None
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
    """A JSON response that can hold whatever Python reads as JSON, lone surrogates and infinities too."""

    def render(self, content: Any) -> bytes:
        """ASCII, all else escaped. A job that could not be written would take down its whole batch."""
        return json.dumps(content, separators=(",", ":")).encode()


def error_response(status: int, reason: str) -> LenientJsonResponse:
    """A response with this status and `reason` as its `error`."""
    return LenientJsonResponse({"error": reason}, status_code=status)
