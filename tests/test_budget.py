"""The budget: expected prices never pass the limit, and a run that fits is never refused."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clocks import VirtualTimeLoop, in_virtual_time

from narration.errors import BudgetError
from narration.settings import read_settings
from narration.synthesis.budget import Budget, budget_for


def budget(limit: float | None) -> Budget:
    """A budget at one dollar a second, one second of speech a second, one job a worker."""
    return Budget(price_per_second=1.0, share=1, speed=1.0, limit=limit)


@in_virtual_time
async def test_a_job_waits_for_jobs_that_may_cost_less_than_reserved() -> None:
    """Of ten dollars six are reserved; when that job has cost three, another six fit."""
    money = budget(10.0)
    events: list[str] = []

    async def first() -> None:
        async with money.reserve(6.0):
            await asyncio.sleep(5)
            events.append("first ends")
            money.spend(3.0)

    async def second() -> None:
        await asyncio.sleep(1)
        async with money.reserve(6.0):
            events.append("second begins")
            money.spend(6.0)

    await asyncio.gather(first(), second())
    assert events == ["first ends", "second begins"]
    assert money.spent == 9.0


@in_virtual_time
async def test_a_job_that_no_longer_fits_is_refused_with_a_remedy() -> None:
    """It waits while a job in flight may cost less; then the error names the limit and the remedy."""
    money = budget(10.0)

    async def costs_more_than_reserved() -> None:
        async with money.reserve(4.0):
            await asyncio.sleep(5)
            money.spend(7.0)

    async def late() -> None:
        await asyncio.sleep(1)
        with pytest.raises(BudgetError, match=r"limit of \$10\.0000: \$7\.0000 spent") as refused:
            async with money.reserve(7.0):
                raise AssertionError("it passed the limit")
        assert "--max-cost" in refused.value.remedy
        assert asyncio.get_running_loop().time() == began + 5

    began = asyncio.get_running_loop().time()
    await asyncio.gather(costs_more_than_reserved(), late())
    with pytest.raises(BudgetError):
        async with money.reserve(3.5):
            raise AssertionError("it passed the limit")
    async with money.reserve(3.0):
        pass


@in_virtual_time
async def test_a_failed_or_cancelled_job_frees_what_it_reserved() -> None:
    """A waiting job gets what a failed one reserved; one cancelled while it waits reserves nothing."""
    money = budget(10.0)

    async def fails() -> None:
        async with money.reserve(9.0):
            await asyncio.sleep(5)
            raise RuntimeError("gone")

    async def waits(seconds: float) -> float:
        async with money.reserve(9.0):
            await asyncio.sleep(seconds)
            return asyncio.get_running_loop().time()

    began = asyncio.get_running_loop().time()
    failing = asyncio.create_task(fails())
    await asyncio.sleep(0)
    cancelled, waiting = asyncio.create_task(waits(100)), asyncio.create_task(waits(2))
    await asyncio.sleep(1)
    cancelled.cancel()
    with pytest.raises(RuntimeError):
        await failing
    assert await waiting == began + 7


@settings(deadline=None)  # a loaded machine
@given(
    seconds=st.lists(st.floats(0.1, 30), min_size=1, max_size=30),
    at_once=st.integers(1, 8),
    dice=st.randoms(use_true_random=False),
)
def test_a_run_as_cheap_as_planned_is_never_refused_and_never_passes_its_limit(
    seconds: list[float], at_once: int, dice: random.Random
) -> None:
    """In any order and with any number at once, all jobs run at the price of the plan."""
    limit = sum(seconds) * (1 + 1e-9)
    money = budget(limit)
    waiting = iter(seconds)

    async def consume() -> None:
        for expected in waiting:
            async with money.reserve(expected):
                await asyncio.sleep(dice.uniform(0, 10))
                money.spend(expected * dice.uniform(0.2, 1.0))
                assert money.spent <= limit

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(consume())

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


async def test_a_plan_that_costs_more_than_is_left_is_refused() -> None:
    """What is spent counts against the next plan."""
    money = budget(10.0)
    money.require_room(10.0)
    async with money.reserve(6.0):
        money.spend(6.0)
    money.require_room(4.0)
    with pytest.raises(BudgetError, match="limit"):
        money.require_room(5.0)
    budget(None).require_room(1e9)


def test_jobs_that_run_on_a_worker_at_once_share_its_price() -> None:
    """With eight slots, a second of a job costs an eighth of a worker's second."""
    money = Budget(price_per_second=0.8, share=8, speed=10.0, limit=None)
    money.spend(10.0)
    assert money.spent == pytest.approx(1.0)


def test_a_draft_spends_nothing() -> None:
    """The draft engine is free, whatever price is set."""
    money = budget_for(read_settings(max_cost=0.001), "draft")
    money.spend(1_000)
    assert money.spent == 0.0
