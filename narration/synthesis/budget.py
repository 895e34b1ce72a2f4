"""What a run may spend: nothing is submitted that could pass the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from narration.errors import BudgetError
from narration.settings import ASSUMED_SPEED, EngineName, Settings


class Budget:
    """Money of one run, in USD, on one event loop. `limit` None lets everything through.

    A worker speaks `share` jobs at once and is billed by its own seconds, so a job's
    execution seconds count for one share of the price.
    """

    def __init__(self, *, price_per_second: float, share: int, speed: float, limit: float | None) -> None:
        self._price = price_per_second
        self._share = share
        self._speed = speed
        self._limit = limit
        self._in_flight: list[float] = []  # not a running sum: empty has to be exactly nothing
        self._ended = asyncio.Event()
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
    async def job(self, speech_seconds: float) -> AsyncIterator[None]:
        """Hold the expected price of a job while it runs.

        Where jobs in flight leave no room, waits for what they really cost. Raises `BudgetError`
        once what is spent alone leaves none.
        """
        expected = speech_seconds / self._speed * self._price
        while self._limit is not None and self.spent + sum(self._in_flight) + expected > self._limit:
            if self.spent + expected > self._limit:
                raise BudgetError(
                    f"another chunk could pass the limit of ${self._limit:.4f}: ${self.spent:.4f} spent, "
                    f"${sum(self._in_flight):.4f} in flight",
                    remedy="raise --max-cost and run again; what is stored is not paid again",
                )
            self._ended.clear()
            await self._ended.wait()
        self._in_flight.append(expected)
        try:
            yield
        finally:
            self._in_flight.remove(expected)
            self._ended.set()

    def spend(self, execution_seconds: float) -> None:
        """Account for a finished job."""
        self.execution_seconds += execution_seconds
        self.spent += self.price_of(execution_seconds)

    def price_of(self, execution_seconds: float) -> float:
        """USD for a job's execution seconds."""
        return execution_seconds * self._price / self._share


def budget_for(settings: Settings, engine: EngineName) -> Budget:
    """The budget that the settings allow; a draft costs nothing."""
    return Budget(
        price_per_second=0.0 if engine == "draft" else settings.price_per_second,
        share=min(settings.slots, settings.concurrency),
        speed=settings.speed or ASSUMED_SPEED,
        limit=settings.max_cost,
    )
