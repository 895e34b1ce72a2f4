"""HTTP requests that wait for the queue to change, until it has or their client has disconnected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

DISCONNECT_CHECK_SECONDS = 0.5  # between checks whether a waiting client is still connected

T = TypeVar("T")


class ChangeNotifier:
    """Wakes every waiting request each time the queue has changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._closed = False

    def notify(self) -> None:
        """Wake every waiting request: the queue has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """The server is closing: end every wait, now and later."""
        self._closed = True
        self.notify()

    async def wait_for(
        self, look_up: Callable[[], T | None], request: Request, *, seconds: float
    ) -> T | None:
        """Call `look_up` after each change until it returns a value, and return the value.

        Returns None after `seconds`, when the client of `request` has disconnected, and when the
        server is closing. `look_up` may take a job out of the queue: nothing is awaited between its
        value and the return, so no value is lost.
        """
        deadline = time.monotonic() + seconds
        while True:
            changed = self._changed
            if await request.is_disconnected():
                return None
            value = look_up()
            left = deadline - time.monotonic()
            if value is not None or left <= 0 or self._closed:
                return value
            try:
                await asyncio.wait_for(changed.wait(), min(left, DISCONNECT_CHECK_SECONDS))
            except TimeoutError:
                continue
