"""Trouble that may pass, and how long a call goes on in spite of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from narration.endpoint.rate_limiter import RateLimiter, jitter
from narration.errors import EndpointUnavailable

FIRST_PAUSE = 0.5  # s before the first repetition; doubled for each further one
LONGEST_PAUSE = 15.0  # s
LONGEST_RETRY_AFTER = 60.0  # s; what a server may ask for at most

T = TypeVar("T")


class TransientFailure(Exception):
    """A call brought no answer that can be used; internal to this package.

    `acted`: the endpoint may have done what was asked. `crowded`: it asks for fewer calls,
    for `retry_after` seconds if it said so.
    """

    def __init__(
        self, message: str, *, acted: bool, crowded: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.acted = acted
        self.crowded = crowded
        self.retry_after = retry_after


def pause_before(repetition: int, asked: float | None = None) -> float:
    """Seconds to wait before the `repetition`-th repetition (from 1) of a call.

    Doubling from half a second, or what the server `asked` for up to a minute, and spread so
    that those who failed together do not come back together.
    """
    if asked is None:
        longest = min(FIRST_PAUSE * 2.0 ** (min(repetition, 32) - 1), LONGEST_PAUSE)
        return longest * jitter.uniform(0.5, 1.0)
    return max(min(asked, LONGEST_RETRY_AFTER), FIRST_PAUSE) * jitter.uniform(1.0, 1.1)


async def retry(
    call: Callable[[], Awaitable[T]], gate: RateLimiter, *, patience: float, harmless: bool = True
) -> T:
    """`call` through `gate`, again and again, until it brings no more `Trouble`.

    A call that is not `harmless` to repeat is repeated only where it certainly did nothing.
    Raises `EndpointUnavailable` once the next try would come after `patience` seconds.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    for repetition in count(1):
        try:
            async with gate:
                return await call()
        except TransientFailure as error:
            trouble = error
        pause = pause_before(repetition, trouble.retry_after)
        if trouble.acted and not harmless:
            raise EndpointUnavailable(
                f"the answer to a submission was lost: {trouble}",
                remedy="the job may be running unseen; its clip can be had only by submitting again",
                maybe_accepted=True,
            )
        if loop.time() + pause > give_up:
            remedy = "lower NARRATION_CONCURRENCY" if trouble.crowded else "check the network, then try again"
            raise EndpointUnavailable(f"the endpoint cannot be had: {trouble}", remedy=remedy)
        if trouble.crowded:
            gate.hold(pause)  # for every caller: it is the endpoint that is full, not this job
        else:
            await asyncio.sleep(pause)
    raise AssertionError("a count has no end")
