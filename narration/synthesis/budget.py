"""The budget of a run: no job is submitted whose expected price could pass the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from narration.errors import BudgetError
from narration.settings import ASSUMED_SPEED, EngineName, Settings


class Budget:
    """The money of one run, in USD, on one event loop. `limit` None allows everything.

    A worker has `share` jobs in its slots at once and is billed for its own seconds, so a job's second
    in a slot costs that part of a worker's second; its wait for a slot in the worker costs nothing.
    """

    def __init__(self, *, price_per_second: float, share: int, speed: float, limit: float | None) -> None:
        self._price = price_per_second
        self._share = share
        self._speed = speed
        self._limit = limit
        self._in_flight: list[float] = []  # expected prices; a running sum would not return to exactly 0.0
        self._job_ended = asyncio.Event()
        self.spent = 0.0
        self.execution_seconds = 0.0

    def require_room(self, price: float) -> None:
        """Refuse a plan that would cost more than is left of the limit."""
        if self._limit is not None and self.spent + price > self._limit:
            raise BudgetError(
                f"about ${price:.4f} is more than the limit of ${self._limit:.4f}",
                remedy="raise --max-cost, or narrate less; `narrate plan` shows how the price is made up",
            )

    @asynccontextmanager
    async def reserve(self, speech_seconds: float) -> AsyncIterator[None]:
        """Reserve the expected price of a job while it runs.

        Waits where the jobs in flight might need the money themselves, until one has ended. Raises
        `BudgetError` when what is spent already leaves too little.
        """
        expected = speech_seconds / self._speed * self._price
        while self._limit is not None and self.spent + sum(self._in_flight) + expected > self._limit:
            if self.spent + expected > self._limit:
                raise BudgetError(
                    f"another chunk could pass the limit of ${self._limit:.4f}: ${self.spent:.4f} spent, "
                    f"${sum(self._in_flight):.4f} in flight",
                    remedy="raise --max-cost and run again; stored clips are not paid for again",
                )
            self._job_ended.clear()
            await self._job_ended.wait()
        self._in_flight.append(expected)
        try:
            yield
        finally:
            self._in_flight.remove(expected)
            self._job_ended.set()

    def spend(self, execution_seconds: float) -> None:
        """Add the price of an ended job."""
        self.execution_seconds += execution_seconds
        self.spent += self.price_of(execution_seconds)

    def price_of(self, execution_seconds: float) -> float:
        """The price of a job's execution seconds, in USD."""
        return execution_seconds * self._price / self._share


def budget_for(settings: Settings, engine: EngineName) -> Budget:
    """The budget that the settings allow; the draft engine costs nothing."""
    return Budget(
        price_per_second=0.0 if engine == "draft" else settings.price_per_second,
        share=min(settings.slots, settings.concurrency),
        speed=settings.speed or ASSUMED_SPEED,
        limit=settings.max_cost,
    )
