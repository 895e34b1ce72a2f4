"""Many jobs at once against a fake of RunPod's job API, in virtual time: the rate limits are kept."""

from __future__ import annotations

import asyncio

import pytest
from support.clocks import in_virtual_time
from support.fake_runpod import (
    POLICY,
    REQUEST,
    FakeRunPod,
    JobScenario,
    client_of,
    now,
    record_nothing,
    responds,
    synthesize,
)


@in_virtual_time
async def test_429_on_status_pauses_the_polls_of_every_job() -> None:
    """The endpoint is full, not one job: no job is polled until Retry-After is over."""
    fake = FakeRunPod(*[JobScenario(run=30)] * 20)
    async with client_of(fake) as client:
        ids = [await client.run(REQUEST, POLICY) for _ in range(20)]
        fake.before["status"].append(responds(429, headers={"Retry-After": "20"}))
        began = now()
        await asyncio.gather(*(client.result(job_id, deadline_seconds=200) for job_id in ids))
    refused = next(call.at for call in fake.calls if call.status == 429)
    polls = [call.at for call in fake.calls if call.operation == "status"]
    assert not [at for at in polls if refused + 1 < at < began + 20]
    assert now() < began + 60


@in_virtual_time
async def test_every_clip_arrives_under_a_much_lower_limit() -> None:
    """RunPod's limits depend on the running workers: a tenth of them only takes longer."""
    fake = FakeRunPod(*[JobScenario(run=10)] * 50, latency=0.05)
    fake.allowed = {"run": 20, "status": 40}
    async with client_of(fake) as client:
        results = await asyncio.gather(
            *(
                client.synthesize(REQUEST, POLICY, deadline_seconds=1_000, on_submitted=record_nothing)
                for _ in range(50)
            )
        )
    assert len({result.job_id for result in results}) == len(fake.jobs) == 50


async def synthesize_many(fake: FakeRunPod, count: int, at_once: int) -> float:
    """Synthesize `count` clips, `at_once` in flight, after one alone; return the seconds they took."""
    slots = asyncio.Semaphore(at_once)
    async with client_of(fake) as client:
        await synthesize(client)

        async def one() -> None:
            async with slots:
                await synthesize(client)

        began = now()
        await asyncio.gather(*(one() for _ in range(count)))
        return now() - began


def busiest(fake: FakeRunPod, operation: str) -> int:
    """The most calls of `operation` within any ten seconds."""
    times = [call.at for call in fake.calls if call.operation == operation]
    return max(sum(at <= later < at + 10 for later in times) for at in times)


@pytest.mark.parametrize("seconds", [2.0, 6.0])
@in_virtual_time
async def test_a_hundred_jobs_in_flight_are_noticed_in_time_and_far_below_the_limit(seconds: float) -> None:
    """Ends are noticed within half a second, with fewer than half of the calls that RunPod allows."""
    fake = FakeRunPod(*[JobScenario(run=seconds)] * 401, latency=0.08)
    took = await synthesize_many(fake, 400, 100)
    assert took / 4 < seconds + 0.5 + 0.3  # the calls' own latency is 0.16 s, the submissions' queue the rest
    assert busiest(fake, "status") <= 1_000
    assert fake.most_at_once["status"] <= 200
    assert fake.most_at_once["run"] <= 100
    assert fake.count("status") < 2.5 * 400


@in_virtual_time
async def test_polls_stay_below_the_limit_however_uneven_the_jobs() -> None:
    """Jobs of one to ten seconds, 200 in flight: the rate is kept, and every clip arrives."""
    plans = [JobScenario(queue=n % 3, run=1 + n * 7 % 10) for n in range(301)]
    fake = FakeRunPod(*plans, latency=0.05)
    fake.allowed = {"status": 2_000, "run": 1_000}
    await synthesize_many(fake, 300, 200)
    assert busiest(fake, "status") <= 1_000
    assert len(fake.jobs) == 301
