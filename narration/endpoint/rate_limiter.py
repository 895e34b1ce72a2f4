"""A limit on one kind of call: how many at once, how many per second, and none while the server is full."""

from __future__ import annotations

import asyncio
from types import TracebackType


class RateLimiter:
    """An asynchronous context manager around each call; entering waits until the call is allowed.

    RunPod limits each kind of call by their number in 10 s and by how many run at once. Here at most
    `concurrent` calls run at once; `burst` calls may start without a pause, and in any 10 s at most
    `burst + 10 * per_second` start. Time is the event loop's, which no change of the wall clock moves.
    """

    def __init__(self, *, concurrent: int, per_second: float, burst: int) -> None:
        self._concurrent = asyncio.Semaphore(concurrent)
        self._interval = 1 / per_second
        self._burst_seconds = (burst - 1) / per_second
        self._next_due = 0.0  # loop time at which the next call would be exactly on schedule

    async def __aenter__(self) -> None:
        now = asyncio.get_running_loop().time()
        due = max(self._next_due, now)
        self._next_due = due + self._interval
        if (wait := due - self._burst_seconds - now) > 0:
            await asyncio.sleep(wait)
        await self._concurrent.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._concurrent.release()

    def pause(self, seconds: float) -> None:
        """Let no further call start for `seconds`; after that, calls start one by one, without a burst."""
        now = asyncio.get_running_loop().time()
        self._next_due = max(self._next_due, now + seconds + self._burst_seconds)
