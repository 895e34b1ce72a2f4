"""Cancelling jobs of a fake of RunPod's job API, in virtual time: on deadlines and by cancelled callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from support.clocks import in_virtual_time
from support.fake_runpod import (
    POLICY,
    REQUEST,
    FakeRunPod,
    Fault,
    JobScenario,
    breaks,
    client_of,
    now,
    record_nothing,
    responds,
    synthesize,
    synthesize_with,
)

from narration.endpoint import Endpoint, Job
from narration.errors import EndpointUnavailable, JobCancelled


@in_virtual_time
async def test_a_job_that_has_not_ended_by_its_deadline_is_cancelled() -> None:
    """Nobody waits for its clip any more, so the endpoint stops the job; trying again may help."""
    fake = FakeRunPod(JobScenario(run=1_000))
    began = now()
    with pytest.raises(EndpointUnavailable, match="IN_PROGRESS") as caught:
        await synthesize_with(fake, deadline=60)
    assert caught.value.retryable
    assert 60 <= now() - began < 66
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_a_deadline_ends_the_wait_even_if_the_endpoint_is_unavailable() -> None:
    """Polls, health and cancelling all fail: the caller has its error within a bounded time."""
    fake = FakeRunPod(JobScenario(queue=10_000))
    for operation in ("cancel", "health"):
        fake.before[operation].extend([breaks(httpx.ReadTimeout)] * 100)
    began = now()
    with pytest.raises(EndpointUnavailable):
        await synthesize_with(fake, deadline=60)
    assert now() - began < 60 + 5 + 30 + 5


@in_virtual_time
async def test_result_leaves_a_job_running() -> None:
    """Another run may wait for the job too: neither a deadline nor a cancelled caller ends it."""
    fake = FakeRunPod(JobScenario(run=1_000), JobScenario(run=1_000))
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        with pytest.raises(EndpointUnavailable):
            await client.result(job_id, deadline_seconds=20)
        waiting = asyncio.create_task(client.result(job_id, deadline_seconds=20))
        await asyncio.sleep(5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert fake.count("cancel") == 0


@in_virtual_time
async def test_result_cancels_an_unfinished_job_if_asked_to() -> None:
    """With `cancel_unfinished`, a deadline and a cancelled caller each cancel the job."""
    fake = FakeRunPod(JobScenario(run=1_000), JobScenario(run=1_000))
    async with client_of(fake) as client:
        late, abandoned = [await client.run(REQUEST, POLICY) for _ in range(2)]
        with pytest.raises(EndpointUnavailable):
            await client.result(late, deadline_seconds=20, cancel_unfinished=True)
        waiting = asyncio.create_task(client.result(abandoned, deadline_seconds=20, cancel_unfinished=True))
        await asyncio.sleep(5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert fake.cancelled() == [late, abandoned]


async def cancel_after(
    seconds: float, work: Callable[[Endpoint], Awaitable[object]], fake: FakeRunPod
) -> None:
    """Start `work`, cancel it after `seconds`, and see the cancellation come through."""
    async with client_of(fake) as client:
        task = asyncio.ensure_future(work(client))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 2.0, 2.05, 7.0])
@in_virtual_time
async def test_a_cancelled_run_cancels_its_job_at_any_moment(seconds: float) -> None:
    """While submitting, between polls or during one: a job that the endpoint has accepted is cancelled."""
    fake = FakeRunPod(JobScenario(run=100), latency=0.1)
    await cancel_after(seconds, synthesize, fake)
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_a_run_cancelled_while_it_records_the_job_cancels_the_job() -> None:
    """Between submission and record no other call knows the job's id."""
    fake = FakeRunPod(JobScenario(run=100))

    async def record_slowly(_: str) -> None:
        await asyncio.sleep(50)

    await cancel_after(
        5, lambda c: c.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=record_slowly), fake
    )
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_a_job_that_cannot_be_recorded_is_cancelled() -> None:
    """The store fails after the submission: its error is raised, and no unrecorded job runs."""
    fake = FakeRunPod(JobScenario(run=100))

    async def fail(job_id: str) -> None:
        raise OSError(job_id)

    async with client_of(fake) as client:
        with pytest.raises(OSError, match="job-1-u1"):
            await client.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=fail)
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_cancelling_a_run_twice_still_cancels_its_job() -> None:
    """The second one ends the caller's wait, not the job's cancellation, which closing the client awaits."""
    fake = FakeRunPod(JobScenario(run=100), latency=2.0)
    async with client_of(fake) as client:
        task = asyncio.ensure_future(synthesize(client))
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.sleep(0.5)
        task.cancel()
        began = now()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() - began < 0.1
        assert fake.cancelled() == []
    assert fake.cancelled() == ["job-1-u1"]


@pytest.mark.parametrize("silent", [False, True])
@in_virtual_time
async def test_cancelling_takes_a_bounded_time_if_the_endpoint_is_unavailable(silent: bool) -> None:
    """An endpoint that breaks every connection or never responds cannot delay the end of a run for long."""
    fake = FakeRunPod(JobScenario(run=1_000))
    fake.before["cancel"].extend([breaks(httpx.ReadError)] * 100)

    def stop_responding(_: Job) -> None:
        fake.latency = 10_000 if silent else 0

    began = now()
    await cancel_after(
        5,
        lambda c: c.synthesize(
            REQUEST, POLICY, deadline_seconds=300, on_submitted=record_nothing, on_status=stop_responding
        ),
        fake,
    )
    assert now() - began <= 5 + 30


@in_virtual_time
async def test_a_hundred_jobs_are_cancelled_within_runpods_limit() -> None:
    """A cancelled run of a hundred jobs cancels all of them in seconds, without a single 429."""
    fake = FakeRunPod(*[JobScenario(run=1_000)] * 100, latency=1.5)
    fake.allowed["cancel"] = 100
    async with client_of(fake) as client:
        tasks = [asyncio.ensure_future(synthesize(client)) for _ in range(100)]
        await asyncio.sleep(20)
        began = now()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(fake.cancelled()) == fake.count("cancel") == 100
    assert fake.most_at_once["cancel"] <= 20
    assert now() - began < 15


@pytest.mark.parametrize(
    "answer", [None, responds(400), responds(404), responds(409), responds(410), responds(200)]
)
@in_virtual_time
async def test_cancelling_a_job_that_has_ended_or_is_unknown_is_no_error(answer: Fault | None) -> None:
    """RunPod does not document its response, so every possible one is accepted."""
    fake = FakeRunPod(JobScenario(run=0))
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        fake.before["cancel"].extend([answer, answer])
        await client.cancel(job_id)
        await client.cancel(job_id)
        await client.cancel("never-was")


@in_virtual_time
async def test_a_cancellation_that_fails_is_repeated() -> None:
    """Cancelling twice does the same as cancelling once, so it is repeated like a poll."""
    fake = FakeRunPod(JobScenario(run=100))
    fake.before["cancel"].extend([responds(500), breaks(httpx.ReadError), responds(429)])
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        await client.cancel(job_id)
    assert fake.cancelled() == [job_id]


@in_virtual_time
async def test_a_job_that_somebody_else_cancelled_is_an_error_of_its_own() -> None:
    """It is not submitted again: somebody wanted it to end."""
    fake = FakeRunPod(JobScenario(run=100))

    async def cancel_elsewhere(job_id: str) -> None:
        async with client_of(fake) as other:
            await other.cancel(job_id)

    async with client_of(fake) as client:
        with pytest.raises(JobCancelled):
            await client.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=cancel_elsewhere)
