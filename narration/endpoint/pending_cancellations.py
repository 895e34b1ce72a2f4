"""Cancelling what a caller walked away from: in bounded time, and to the end even if it walks twice."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from narration.endpoint.retrying import TransientFailure
from narration.errors import EndpointError


class PendingCancellations:
    """The cancellations under way; each may take `seconds`, and none raises."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._under_way: set[asyncio.Task[None]] = set()

    async def say(self, parting: Coroutine[Any, Any, None]) -> None:
        """Await `parting`; a caller cancelled meanwhile leaves it to `finish`."""
        task = asyncio.create_task(self._bounded(parting))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for those still under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _bounded(self, parting: Coroutine[Any, Any, None]) -> None:
        # What cannot be said is left unsaid: the job ends at its time to live.
        with suppress(EndpointError, TransientFailure, TimeoutError):
            async with asyncio.timeout(self._seconds):
                await parting
