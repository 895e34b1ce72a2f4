"""Polling jobs of a fake of RunPod's job API, in virtual time: intervals, statuses, ends, deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.clocks import in_virtual_time
from support.fake_runpod import (
    POLICY,
    REQUEST,
    FakeRunPod,
    JobScenario,
    client_of,
    clip_output,
    completed,
    now,
    record_nothing,
    synthesize,
    synthesize_with,
)

from narration.endpoint import Job, JobPolicy, JobStatus
from narration.errors import (
    BadResult,
    EndpointRefused,
    EndpointUnavailable,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
)


@in_virtual_time
async def test_a_job_is_polled_from_the_queue_to_its_clip() -> None:
    """`on_status` is called once for each change of status, and the clip has the platform's timings."""
    seen: list[Job] = []
    fake = FakeRunPod(JobScenario(queue=4, run=3))
    result = await synthesize_with(fake, on_status=seen.append)
    assert [job.status for job in seen] == [JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS, JobStatus.COMPLETED]
    assert seen[1].worker_id == "w-1"
    assert (result.delay_ms, result.execution_ms, result.job_id) == (4_000, 3_000, "job-1-u1")
    assert fake.cancelled() == []


@in_virtual_time
async def test_a_cold_start_of_a_hundred_seconds_needs_few_polls() -> None:
    """The first job of a day waits for a worker; its polls become rare."""
    fake = FakeRunPod(JobScenario(queue=100, run=6))
    await synthesize_with(fake)
    assert fake.count("status") < 100


@in_virtual_time
async def test_output_shown_while_a_job_runs_is_not_its_result() -> None:
    """Even a whole clip that is shown as progress is not taken: only the final output is the result."""
    fake = FakeRunPod(
        JobScenario(
            run=5,
            progress=clip_output(seed=1),
            end=completed(clip_output(seed=2)),
        )
    )
    assert (await synthesize_with(fake)).result.seed == 2


@in_virtual_time
async def test_an_unknown_status_is_not_the_end() -> None:
    """RunPod may add statuses; the client keeps polling."""
    fake = FakeRunPod(
        JobScenario(statuses=[{"status": "RUNNING"}, {"status": "THAWING"}, completed(clip_output())])
    )
    seen: list[Job] = []
    await synthesize_with(fake, on_status=seen.append)
    assert [job.status for job in seen] == [JobStatus.RUNNING, JobStatus.UNKNOWN, JobStatus.COMPLETED]


@in_virtual_time
async def test_a_job_that_is_dispatched_again_is_reported_and_waited_for() -> None:
    """A retry by the platform starts delay and execution anew; the client keeps polling."""
    seen: list[Job] = []
    fake = FakeRunPod(JobScenario(queue=60, run=30, dies_after=10))
    result = await synthesize_with(fake, on_status=seen.append)
    running = [job for job in seen if job.status is JobStatus.IN_PROGRESS]
    assert [(job.retries, job.delay_ms) for job in running] == [(0, 60_000), (1, 100_000)]
    assert result.retries == 1


@pytest.mark.parametrize(
    ("end", "error", "retryable"),
    [
        ({"status": "COMPLETED"}, JobLost, True),
        ({"status": "COMPLETED", "output": None}, JobLost, True),
        (completed(clip_output(audio_base64="#")), BadResult, True),
        (completed({"error": "gone", "error_code": "engine_failure"}), JobFailed, True),
        ({"status": "FAILED", "error": "job timed out after 1 retries", "retries": 1}, JobFailed, True),
        (
            {
                "status": "FAILED",
                "error": "prompt: empty",
                "output": {"error_code": "invalid_input", "retryable": False},
            },
            JobFailed,
            False,
        ),
        ({"status": "TIMED_OUT"}, JobTimedOut, True),
        ({"status": "CANCELLED"}, JobCancelled, False),
    ],
)
@in_virtual_time
async def test_every_other_end_of_a_job_is_an_error_of_its_own(
    end: dict[str, Any], error: type[EndpointRefused], retryable: bool
) -> None:
    """A job that has ended raises at once, is not polled again, and is not cancelled."""
    fake = FakeRunPod(JobScenario(run=2, end=end))
    with pytest.raises(error) as caught:
        await synthesize_with(fake)
    assert caught.value.retryable is retryable
    assert fake.count("cancel") == 0


@in_virtual_time
async def test_a_result_past_its_retention_is_lost() -> None:
    """RunPod keeps a result for half an hour; then it does not know the job any more."""
    fake = FakeRunPod(JobScenario(run=2))
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        await asyncio.sleep(1_700)
        await client.result(job_id, deadline_seconds=10)
        await asyncio.sleep(200)
        with pytest.raises(JobLost, match=job_id) as caught:
            await client.result(job_id, deadline_seconds=10)
    assert caught.value.retryable


@in_virtual_time
async def test_a_job_whose_time_to_live_ends_while_it_runs_is_lost() -> None:
    """RunPod deletes the job; the client does not wait for its deadline."""
    fake = FakeRunPod(JobScenario(run=100))
    began = now()
    async with client_of(fake) as client:
        with pytest.raises(JobLost):
            await client.synthesize(
                REQUEST, JobPolicy(600, 20), deadline_seconds=500, on_submitted=record_nothing
            )
    assert 20 <= now() - began < 24


@pytest.mark.parametrize(
    ("workers", "remedy"),
    [
        ({"idle": 0, "unhealthy": 2}, "read its log"),
        ({"idle": 0, "throttled": 3}, "no GPU of the chosen types is free"),
        ({"idle": 0}, "sets it to 0 after a week"),
        ({"idle": 0, "running": 3}, "NARRATION_CONCURRENCY"),
    ],
)
@in_virtual_time
async def test_the_error_for_a_job_stuck_in_the_queue_says_what_its_workers_lack(
    workers: dict[str, int], remedy: str
) -> None:
    """/status cannot tell a crash loop from a lack of GPUs; /health can."""
    fake = FakeRunPod(JobScenario(queue=10_000))
    fake.workers = workers
    with pytest.raises(EndpointUnavailable, match=remedy):
        await synthesize_with(fake, deadline=60)


@in_virtual_time
async def test_a_job_that_ended_while_the_machine_slept_is_still_taken() -> None:
    """The deadline passes during one long pause; the last poll finds the clip."""
    fake = FakeRunPod(JobScenario(run=40))

    def sleep_machine(_: Job) -> None:
        loop = asyncio.get_running_loop()
        loop.now += 1_000  # type: ignore[attr-defined]  # the virtual loop's clock

    result = await synthesize_with(fake, deadline=60, on_status=sleep_machine)
    assert result.job_id == "job-1-u1"
    assert fake.cancelled() == []


@pytest.mark.parametrize(("seconds", "late"), [(0.3, 0.12), (2.0, 0.2), (6.0, 0.5)])
@in_virtual_time
async def test_the_end_of_a_first_job_is_noticed_in_time(seconds: float, late: float) -> None:
    """Without earlier jobs to learn from, the polls come at a small fraction of the job's age."""
    fake = FakeRunPod(JobScenario(run=seconds))
    began = now()
    await synthesize_with(fake)
    assert now() - began < seconds + late


@in_virtual_time
async def test_one_quick_job_shortens_the_poll_interval_of_the_next() -> None:
    """The interval is learned from the shortest execution, so that slow jobs do not delay quick ones."""
    fake = FakeRunPod(JobScenario(run=8), JobScenario(run=1), JobScenario(run=1))
    async with client_of(fake) as client:
        await synthesize(client)
        await synthesize(client)
        began = now()
        await synthesize(client)
    assert now() - began < 1.3
