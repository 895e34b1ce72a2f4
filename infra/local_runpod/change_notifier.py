"""Waiting for the queue to change, on behalf of a client that may leave meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

_SLICE = 0.5  # s between looks at whether a waiting client is still there

Found = TypeVar("Found")


class ChangeNotifier:
    """Wakes everyone who waits, each time something changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._closed = False

    def tell(self) -> None:
        """Something changed: whoever waits, look again."""
        self._event.set()
        self._event = asyncio.Event()

    def close(self) -> None:
        """The server is going: nobody waits any more, now or later."""
        self._closed = True
        self.tell()

    async def until(
        self, look: Callable[[], Found | None], request: Request, *, seconds: float
    ) -> Found | None:
        """What `look` finds, or None after `seconds`, when `request`'s client has left, or at the close.

        `look` may hand something over: nothing is awaited between its answer and the return.
        """
        deadline = time.monotonic() + seconds
        while True:
            event = self._event
            if await request.is_disconnected():
                return None
            found = look()
            left = deadline - time.monotonic()
            if found is not None or left <= 0 or self._closed:
                return found
            try:
                await asyncio.wait_for(event.wait(), min(left, _SLICE))
            except TimeoutError:
                continue
