"""Repeating a call to the endpoint that failed for a reason that may pass."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from narration.endpoint.rate_limiter import RateLimiter
from narration.errors import EndpointUnavailable

FIRST_PAUSE = 0.5  # s before the first repetition; doubled for each further one
LONGEST_PAUSE = 15.0  # s
LONGEST_RETRY_AFTER = 60.0  # s; what a server may ask for at most

T = TypeVar("T")


class TransientFailure(Exception):
    """A call that brought no usable response, for a reason that may pass; internal to this package.

    `maybe_applied`: the endpoint may have done what the call asked for. `rate_limited`: the
    endpoint asks for fewer calls. `retry_after`: seconds it asks to wait, None if it named none.
    """

    def __init__(
        self,
        message: str,
        *,
        maybe_applied: bool,
        rate_limited: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied
        self.rate_limited = rate_limited
        self.retry_after = retry_after


def pause_before(repetition: int, retry_after: float | None = None) -> float:
    """Seconds to wait before the `repetition`-th repetition (from 1) of a call.

    Doubling from half a second, or the server's `retry_after` up to a minute; random within
    bounds, so that calls that failed together are not repeated together.
    """
    if retry_after is None:
        longest = min(FIRST_PAUSE * 2.0 ** (min(repetition, 32) - 1), LONGEST_PAUSE)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads the calls, guards nothing
    bounded = max(min(retry_after, LONGEST_RETRY_AFTER), FIRST_PAUSE)
    return bounded * random.uniform(1.0, 1.1)  # noqa: S311  # as above


async def retry(
    call: Callable[[], Awaitable[T]], limiter: RateLimiter, *, seconds: float, idempotent: bool = True
) -> T:
    """Make `call` within `limiter`, and repeat it for up to `seconds` while it raises `TransientFailure`.

    A call that is not `idempotent` is repeated only if it was certainly not applied. Raises
    `EndpointUnavailable` when the next repetition would start too late.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    repetition = 0
    while True:
        try:
            async with limiter:
                return await call()
        except TransientFailure as error:
            failure = error
        repetition += 1
        if failure.maybe_applied and not idempotent:
            raise EndpointUnavailable(
                f"the response to a submission was lost: {failure}",
                remedy="the job may be running unseen; its clip can be had only by submitting again",
                maybe_accepted=True,
            )
        pause = pause_before(repetition, failure.retry_after)
        if loop.time() + pause > give_up_at:
            remedy = (
                "lower NARRATION_CONCURRENCY" if failure.rate_limited else "check the network, then try again"
            )
            raise EndpointUnavailable(f"the endpoint is unavailable: {failure}", remedy=remedy)
        if failure.rate_limited:
            limiter.pause(pause)  # for every caller: the endpoint is full, not this job
        else:
            await asyncio.sleep(pause)
