"""Cancellations under way at RunPod, each limited in time and finished even if the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from narration.endpoint.retrying import TransientFailure
from narration.errors import EndpointError


class PendingCancellations:
    """The cancellations that are still running; each may take `seconds`, and none raises an error.

    A cancelled flow run cancels its tasks, and may cancel them again while they clean up. The
    cancellation of a job therefore runs in an asyncio task of its own, which only the time limit ends.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, cancellation: Coroutine[Any, Any, None]) -> None:
        """Run `cancellation` and wait for it; if the caller is cancelled meanwhile, it runs on."""
        task = asyncio.create_task(self._run_limited(cancellation))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for the cancellations that are still running."""
        if self._running:
            await asyncio.wait(self._running)

    async def _run_limited(self, cancellation: Coroutine[Any, Any, None]) -> None:
        # A job whose cancellation fails ends by itself, at the time to live of its policy.
        with suppress(EndpointError, TransientFailure, TimeoutError):
            async with asyncio.timeout(self._seconds):
                await cancellation
