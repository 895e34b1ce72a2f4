"""The endpoint's client against a twin of RunPod's job API, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from support.clocks import in_virtual_time
from support.endpoint import (
    HTML,
    KEY,
    POLICY,
    REQUEST,
    FakeRunPod,
    Plan,
    Trick,
    breaks,
    clip_output,
    completed,
    endpoint,
    ignore,
    replies,
)

from narration.endpoint import Endpoint, Job, JobPolicy, JobResult, JobStatus, Limits
from narration.errors import (
    BadResult,
    EndpointRefused,
    EndpointUnavailable,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
)

PASSING = [408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524]
BROKEN = [httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError]
UNSENT = [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout]


def now() -> float:
    return asyncio.get_running_loop().time()


async def speak(fake: FakeRunPod, *, deadline: float = 300.0, **kwargs: Any) -> JobResult:
    async with endpoint(fake) as client:
        return await client.synthesize(
            REQUEST, POLICY, deadline_seconds=deadline, on_submitted=ignore, **kwargs
        )


# Submitting


@in_virtual_time
async def test_a_submission_carries_the_request_and_its_policy() -> None:
    """What arrives is the contract's input with every default, and the job's limits in milliseconds."""
    fake = FakeRunPod()
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, JobPolicy(30, 60))
    body = fake.jobs[job_id].body
    assert body["policy"] == {"executionTimeout": 30_000, "ttl": 60_000}
    assert body["input"] == REQUEST.model_dump(mode="json", exclude_none=True)


@in_virtual_time
async def test_a_wrong_key_is_refused_with_the_setting_to_mend() -> None:
    """401 ends at once, naming RUNPOD_API_KEY and not the key."""
    fake = FakeRunPod()
    async with endpoint(fake, key="rpa_WRONGWRONGWRONGWRONG") as client:
        for call in (client.run(REQUEST, POLICY), client.status("job-1"), client.health()):
            with pytest.raises(EndpointRefused, match="RUNPOD_API_KEY") as caught:
                await call
            assert not caught.value.retryable
            assert "WRONG" not in str(caught.value)
    assert len(fake.calls) == 3


@in_virtual_time
async def test_an_unknown_endpoint_is_refused_though_the_answer_is_a_page() -> None:
    """404 on a submission is a wrong endpoint id; its HTML body explains nothing and is not shown."""
    async with endpoint(FakeRunPod(), endpoint_id="elsewhere") as client:
        with pytest.raises(EndpointRefused, match="RUNPOD_HIGGS_ENDPOINT_ID") as caught:
            await client.run(REQUEST, POLICY)
    assert "html" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 402, 403, 405, 413, 422])
@in_virtual_time
async def test_a_refusal_is_final_and_says_what_the_endpoint_says(status: int) -> None:
    """Nothing is repeated after a refusal, and the endpoint's own words come along on one line."""
    fake = FakeRunPod()
    fake.before["run"].append(replies(status, json={"error": "input is\nwrong"}))
    async with endpoint(fake) as client:
        with pytest.raises(EndpointRefused, match=f"HTTP {status}: input is wrong"):
            await client.run(REQUEST, POLICY)
    assert fake.count("run") == 1


@in_virtual_time
async def test_a_request_over_ten_megabytes_is_refused_with_a_way_out() -> None:
    """RunPod takes 10 MB a job; the remedy names the sample, which is what grows so large."""
    heavy = REQUEST.model_copy(update={"audio_base64": "A" * 10_000_000})
    async with endpoint(FakeRunPod()) as client:
        with pytest.raises(EndpointRefused, match="shorter sample"):
            await client.run(heavy, POLICY)


@in_virtual_time
async def test_429_on_run_is_waited_out_for_as_long_as_the_server_says() -> None:
    """Retry-After in seconds is honoured, and the job is submitted once."""
    fake = FakeRunPod()
    fake.before["run"].extend([replies(429, html=HTML, headers={"Retry-After": "7"})] * 2)
    began = now()
    async with endpoint(fake) as client:
        await client.run(REQUEST, POLICY)
    assert 14 <= now() - began <= 16
    assert len(fake.jobs) == 1


@in_virtual_time
async def test_429_without_retry_after_is_waited_out_with_growing_pauses() -> None:
    """The pauses double, within their jitter, and end after a stated patience."""
    fake = FakeRunPod()
    fake.allowed["run"] = 0
    began = now()
    async with endpoint(fake) as client:
        with pytest.raises(EndpointUnavailable, match="HTTP 429") as caught:
            await client.run(REQUEST, POLICY)
    assert 90 <= now() - began <= 120
    assert fake.count("run") < 20
    assert not caught.value.maybe_accepted
    times = [call.at for call in fake.calls]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] <= 0.5
    assert pauses[2] > pauses[0]
    assert max(pauses) <= 15


@pytest.mark.parametrize("kind", UNSENT)
@in_virtual_time
async def test_a_submission_that_was_never_sent_is_sent_again(kind: type[httpx.TransportError]) -> None:
    """Without a connection nothing can have been accepted."""
    fake = FakeRunPod()
    fake.before["run"].extend([breaks(kind)] * 3)
    async with endpoint(fake) as client:
        await client.run(REQUEST, POLICY)
    assert (fake.count("run"), len(fake.jobs)) == (4, 1)


@pytest.mark.parametrize(
    "trick",
    [replies(status) for status in PASSING]
    + [breaks(kind) for kind in BROKEN]
    + [
        replies(200, html=HTML),
        replies(200, content=b'{"id": "job-1'),
        replies(200, json={"status": "IN_QUEUE"}),
        replies(200, json={"id": 17}),
        replies(200, json={"id": "../../other"}),
        replies(200, json=["job-1"]),
    ],
)
@in_virtual_time
async def test_a_submission_whose_answer_is_lost_is_never_repeated(trick: Trick) -> None:
    """The job was accepted and nobody can know: the error says so, and no second job is paid by itself."""
    fake = FakeRunPod()
    fake.after["run"].append(trick)
    async with endpoint(fake) as client:
        with pytest.raises(EndpointUnavailable) as caught:
            await client.run(REQUEST, POLICY)
    assert caught.value.maybe_accepted
    assert caught.value.retryable
    assert (fake.count("run"), len(fake.jobs)) == (1, 1)


# Looking


@in_virtual_time
async def test_a_job_is_followed_from_the_queue_to_its_clip() -> None:
    """Each change of status is told once, and the clip comes with the platform's figures."""
    told: list[Job] = []
    fake = FakeRunPod(Plan(queue=4, run=3))
    got = await speak(fake, on_status=told.append)
    assert [job.status for job in told] == [JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS, JobStatus.COMPLETED]
    assert told[1].worker_id == "w-1"
    assert (got.delay_ms, got.execution_ms, got.job_id) == (4_000, 3_000, "job-1-u1")
    assert fake.cancelled() == []


@in_virtual_time
async def test_a_cold_start_of_a_hundred_seconds_is_sat_out_with_few_looks() -> None:
    """The first job of a day waits for a worker; the looks at it grow rare."""
    fake = FakeRunPod(Plan(queue=100, run=6))
    await speak(fake)
    assert fake.count("status") < 100


@in_virtual_time
async def test_progress_shown_while_running_is_not_the_result() -> None:
    """A whole clip shown as progress is not taken: only the end has a result."""
    fake = FakeRunPod(
        Plan(
            run=5,
            progress=clip_output(seed=1),
            end=completed(clip_output(seed=2)),
        )
    )
    assert (await speak(fake)).result.seed == 2


@in_virtual_time
async def test_an_unknown_status_is_waited_out() -> None:
    """A word that RunPod may invent is not the end of the job."""
    fake = FakeRunPod(Plan(looks=[{"status": "RUNNING"}, {"status": "THAWING"}, completed(clip_output())]))
    told: list[Job] = []
    await speak(fake, on_status=told.append)
    assert [job.status for job in told] == [JobStatus.RUNNING, JobStatus.UNKNOWN, JobStatus.COMPLETED]


@in_virtual_time
async def test_a_redispatched_job_is_told_again_and_waited_for() -> None:
    """A retry by the platform starts delay and running anew; the client goes on waiting."""
    told: list[Job] = []
    fake = FakeRunPod(Plan(queue=60, run=30, dies_after=10))
    got = await speak(fake, on_status=told.append)
    running = [job for job in told if job.status is JobStatus.IN_PROGRESS]
    assert [(job.retries, job.delay_ms) for job in running] == [(0, 60_000), (1, 100_000)]
    assert got.retries == 1


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
async def test_every_other_end_of_a_job_is_its_own_error(
    end: dict[str, Any], error: type[EndpointRefused], retryable: bool
) -> None:
    """An ended job raises at once, is not asked for again, and is not cancelled."""
    fake = FakeRunPod(Plan(run=2, end=end))
    with pytest.raises(error) as caught:
        await speak(fake)
    assert caught.value.retryable is retryable
    assert fake.count("cancel") == 0


@pytest.mark.parametrize(
    "trick",
    [replies(status, html=HTML) for status in PASSING]
    + [breaks(kind) for kind in BROKEN + UNSENT]
    + [
        replies(200, html=HTML),
        replies(200, content=b'{"id": "job-1", "sta'),
        replies(200, content=b"\xff\xfe"),
        replies(200, json={}),
        replies(200, json={"status": None}),
        replies(200, json=[1]),
        replies(200, content=b"[" * 100_000),
        replies(204),
        replies(429, html=HTML),
        replies(429, headers={"Retry-After": "soon"}),
        replies(503, headers={"Retry-After": "Fri, 20 Nov 99999999999999999999 10:00:00 GMT"}),
    ],
)
@in_virtual_time
async def test_trouble_while_looking_is_sat_out(trick: Trick) -> None:
    """A look changes nothing and is repeated: the clip is had in spite of four troubles."""
    fake = FakeRunPod(Plan(run=2))
    fake.before["status"].extend([trick] * 4)
    assert (await speak(fake)).job_id == "job-1-u1"
    assert (len(fake.jobs), fake.count("cancel")) == (1, 0)


@in_virtual_time
async def test_an_outage_beyond_patience_leaves_the_job_running_for_later() -> None:
    """The endpoint cannot be reached for minutes: the job goes on, and a later call takes its clip."""
    fake = FakeRunPod(Plan(run=140))
    fake.before["status"].extend([breaks(httpx.ConnectError)] * 100)
    began = now()
    async with endpoint(fake) as client:
        with pytest.raises(EndpointUnavailable, match="ConnectError") as caught:
            await client.synthesize(REQUEST, POLICY, deadline_seconds=900, on_submitted=ignore)
        assert caught.value.retryable
        assert not caught.value.maybe_accepted
        assert 90 < now() - began < 150
        fake.before["status"].clear()
        assert (await client.result("job-1-u1", deadline_seconds=60)).job_id == "job-1-u1"
    assert fake.cancelled() == []


@in_virtual_time
async def test_the_network_gone_for_a_minute_costs_nothing() -> None:
    """Sixty seconds without a network are within the client's patience."""
    fake = FakeRunPod(Plan(run=2))
    began = now()

    def gone(request: httpx.Request) -> Any:
        return httpx.ConnectError("no route", request=request) if now() < began + 60 else None

    fake.before["status"].extend([gone] * 1_000)
    await speak(fake)
    assert now() < began + 80


@in_virtual_time
async def test_429_on_status_slows_every_look_at_every_job() -> None:
    """The endpoint is full, not one job: nobody looks until its Retry-After is over."""
    fake = FakeRunPod(*[Plan(run=30)] * 20)
    async with endpoint(fake) as client:
        ids = [await client.run(REQUEST, POLICY) for _ in range(20)]
        fake.before["status"].append(replies(429, headers={"Retry-After": "20"}))
        began = now()
        await asyncio.gather(*(client.result(job_id, deadline_seconds=200) for job_id in ids))
    refused = next(call.at for call in fake.calls if call.status == 429)
    looks = [call.at for call in fake.calls if call.operation == "status"]
    assert not [at for at in looks if refused + 1 < at < began + 20]
    assert now() < began + 60


@in_virtual_time
async def test_a_limit_that_shrinks_is_lived_with() -> None:
    """RunPod's limits follow the running workers: with a tenth of them every clip still comes."""
    fake = FakeRunPod(*[Plan(run=10)] * 50, latency=0.05)
    fake.allowed = {"run": 20, "status": 40}
    async with endpoint(fake) as client:
        got = await asyncio.gather(
            *(
                client.synthesize(REQUEST, POLICY, deadline_seconds=1_000, on_submitted=ignore)
                for _ in range(50)
            )
        )
    assert len({result.job_id for result in got}) == len(fake.jobs) == 50


@pytest.mark.parametrize(("header", "least", "most"), [("3", 3, 3.3), ("0", 0.5, 0.6), ("86400", 60, 66)])
@in_virtual_time
async def test_retry_after_is_honoured_within_reason(header: str, least: float, most: float) -> None:
    """Never at once, never longer than a minute, whatever the server asks for."""
    fake = FakeRunPod(Plan(run=0))
    fake.before["status"].append(replies(429, headers={"Retry-After": header}))
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        began = now()
        await client.status(job_id)
        assert least <= now() - began <= most


@in_virtual_time
async def test_retry_after_as_a_date_is_measured_by_the_servers_clock() -> None:
    """A laptop whose clock is an hour off waits as long as the server meant."""
    fake = FakeRunPod(Plan(run=0))
    dates = {"Date": "Fri, 20 Nov 2026 10:00:00 GMT", "Retry-After": "Fri, 20 Nov 2026 10:00:12 GMT"}
    fake.before["status"].append(replies(503, headers=dates))
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        began = now()
        await client.status(job_id)
        assert 12 <= now() - began <= 13.2


@in_virtual_time
async def test_a_result_past_its_retention_is_lost() -> None:
    """RunPod keeps a result for half an hour; then the job is as if it had never been."""
    fake = FakeRunPod(Plan(run=2))
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        await asyncio.sleep(1_700)
        await client.result(job_id, deadline_seconds=10)
        await asyncio.sleep(200)
        with pytest.raises(JobLost, match=job_id) as caught:
            await client.result(job_id, deadline_seconds=10)
    assert caught.value.retryable


@in_virtual_time
async def test_a_job_whose_time_to_live_ends_while_it_runs_is_lost() -> None:
    """RunPod deletes it mid-run; the client does not wait for its deadline."""
    fake = FakeRunPod(Plan(run=100))
    began = now()
    async with endpoint(fake) as client:
        with pytest.raises(JobLost):
            await client.synthesize(REQUEST, JobPolicy(600, 20), deadline_seconds=500, on_submitted=ignore)
    assert 20 <= now() - began < 24


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "a b", "a\nb", "?x=1", "é", "x" * 300])
@in_virtual_time
async def test_an_id_that_is_none_never_reaches_the_endpoint(job_id: str) -> None:
    """An altered job record cannot make the client ask for another path: it is a lost job."""
    fake = FakeRunPod()
    async with endpoint(fake) as client:
        with pytest.raises(JobLost):
            await client.status(job_id)
        await client.cancel(job_id)
    assert fake.calls == []


# Deadlines and cancelling


@in_virtual_time
async def test_a_job_that_outlives_its_deadline_is_cancelled() -> None:
    """The caller stops waiting, so the endpoint stops working; trying again may help."""
    fake = FakeRunPod(Plan(run=1_000))
    began = now()
    with pytest.raises(EndpointUnavailable, match="IN_PROGRESS") as caught:
        await speak(fake, deadline=60)
    assert caught.value.retryable
    assert 60 <= now() - began < 66
    assert fake.cancelled() == ["job-1-u1"]


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ({"idle": 0, "unhealthy": 2}, "read its log"),
        ({"idle": 0, "throttled": 3}, "no GPU of the chosen types is free"),
        ({"idle": 0}, "sets it to 0 after a week"),
        ({"idle": 0, "running": 3}, "NARRATION_CONCURRENCY"),
    ],
)
@in_virtual_time
async def test_a_job_stuck_in_the_queue_says_what_the_workers_lack(
    workers: dict[str, int], said: str
) -> None:
    """/status alone cannot tell a crash loop from a full data centre; /health can."""
    fake = FakeRunPod(Plan(queue=10_000))
    fake.workers = workers
    with pytest.raises(EndpointUnavailable, match=said):
        await speak(fake, deadline=60)


@in_virtual_time
async def test_a_deadline_with_the_endpoint_gone_still_ends() -> None:
    """Looks, health and cancelling all hang: the caller has its error a bounded time later."""
    fake = FakeRunPod(Plan(queue=10_000))
    for operation in ("cancel", "health"):
        fake.before[operation].extend([breaks(httpx.ReadTimeout)] * 100)
    began = now()
    with pytest.raises(EndpointUnavailable):
        await speak(fake, deadline=60)
    assert now() - began < 60 + 5 + 30 + 5


@in_virtual_time
async def test_waiting_for_a_result_alone_leaves_the_job_running() -> None:
    """`result` watches a job that may be another run's: neither deadline nor cancelling ends it."""
    fake = FakeRunPod(Plan(run=1_000), Plan(run=1_000))
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        with pytest.raises(EndpointUnavailable):
            await client.result(job_id, deadline_seconds=20)
        watching = asyncio.create_task(client.result(job_id, deadline_seconds=20))
        await asyncio.sleep(5)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    assert fake.count("cancel") == 0


@in_virtual_time
async def test_a_job_that_ended_while_the_machine_slept_is_still_taken() -> None:
    """The deadline passes during one long pause; the last look finds the clip."""
    fake = FakeRunPod(Plan(run=40))

    def sleeps(_: Job) -> None:
        loop = asyncio.get_running_loop()
        loop.now += 1_000  # type: ignore[attr-defined]  # the virtual loop's clock

    got = await speak(fake, deadline=60, on_status=sleeps)
    assert got.job_id == "job-1-u1"
    assert fake.cancelled() == []


async def cancelled_after(
    seconds: float, work: Callable[[Endpoint], Awaitable[object]], fake: FakeRunPod
) -> None:
    """Start `work`, cancel it after `seconds`, and see the cancellation come through."""
    async with endpoint(fake) as client:
        task = asyncio.ensure_future(work(client))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def synthesize(client: Endpoint) -> JobResult:
    return await client.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=ignore)


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 2.0, 2.05, 7.0])
@in_virtual_time
async def test_a_cancelled_run_cancels_its_job_whatever_it_was_doing(seconds: float) -> None:
    """Submitting, between looks or during one: once the endpoint has the job, it loses it again."""
    fake = FakeRunPod(Plan(run=100), latency=0.1)
    await cancelled_after(seconds, synthesize, fake)
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_a_run_cancelled_while_it_records_the_job_cancels_the_job() -> None:
    """Between submission and record the id is known to this call alone."""
    fake = FakeRunPod(Plan(run=100))

    async def slow(_: str) -> None:
        await asyncio.sleep(50)

    await cancelled_after(
        5, lambda c: c.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=slow), fake
    )
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_a_job_that_cannot_be_recorded_is_cancelled() -> None:
    """The store fails after the submission: the error comes through, and no job runs unseen."""
    fake = FakeRunPod(Plan(run=100))

    async def fails(job_id: str) -> None:
        raise OSError(job_id)

    async with endpoint(fake) as client:
        with pytest.raises(OSError, match="job-1-u1"):
            await client.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=fails)
    assert fake.cancelled() == ["job-1-u1"]


@in_virtual_time
async def test_cancelling_twice_still_cancels_the_job() -> None:
    """An impatient second cancellation ends the waiting, not the farewell; closing the client awaits it."""
    fake = FakeRunPod(Plan(run=100), latency=2.0)
    async with endpoint(fake) as client:
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
async def test_cancelling_with_the_endpoint_gone_takes_a_bounded_time(silent: bool) -> None:
    """An endpoint that breaks every connection, or never answers, cannot hold up the end of a run."""
    fake = FakeRunPod(Plan(run=1_000))
    fake.before["cancel"].extend([breaks(httpx.ReadError)] * 100)

    def goes_silent(_: Job) -> None:
        fake.latency = 10_000 if silent else 0

    began = now()
    await cancelled_after(
        5,
        lambda c: c.synthesize(
            REQUEST, POLICY, deadline_seconds=300, on_submitted=ignore, on_status=goes_silent
        ),
        fake,
    )
    assert now() - began <= 5 + 30


@in_virtual_time
async def test_a_hundred_jobs_are_cancelled_within_runpods_limit() -> None:
    """A run of a hundred jobs is cancelled: all of them, without a single 429, in seconds."""
    fake = FakeRunPod(*[Plan(run=1_000)] * 100, latency=1.5)
    fake.allowed["cancel"] = 100
    async with endpoint(fake) as client:
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
    "answer", [None, replies(400), replies(404), replies(409), replies(410), replies(200)]
)
@in_virtual_time
async def test_cancelling_what_has_ended_or_is_unknown_is_fine(answer: Trick | None) -> None:
    """What RunPod answers then is not documented; nothing it may say is an error."""
    fake = FakeRunPod(Plan(run=0))
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        fake.before["cancel"].extend([answer, answer])
        await client.cancel(job_id)
        await client.cancel(job_id)
        await client.cancel("never-was")


@in_virtual_time
async def test_a_cancellation_that_meets_trouble_is_repeated() -> None:
    """Cancelling twice is the same as once, so trouble is sat out as for a look."""
    fake = FakeRunPod(Plan(run=100))
    fake.before["cancel"].extend([replies(500), breaks(httpx.ReadError), replies(429)])
    async with endpoint(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        await client.cancel(job_id)
    assert fake.cancelled() == [job_id]


@in_virtual_time
async def test_a_job_somebody_else_cancelled_is_told_as_such() -> None:
    """It is not submitted again by itself: somebody wanted it to end."""
    fake = FakeRunPod(Plan(run=100))

    async def elsewhere(job_id: str) -> None:
        async with endpoint(fake) as other:
            await other.cancel(job_id)

    async with endpoint(fake) as client:
        with pytest.raises(JobCancelled):
            await client.synthesize(REQUEST, POLICY, deadline_seconds=300, on_submitted=elsewhere)


# Health


@in_virtual_time
async def test_health_counts_jobs_and_workers_and_ignores_the_rest() -> None:
    """Known counts are read, unknown ones are nobody's business, missing ones are zero."""
    fake = FakeRunPod()
    fake.workers = {"idle": 1, "throttled": 2}
    async with endpoint(fake) as client:
        health = await client.health()
    assert (health.jobs.in_queue, health.jobs.in_progress, health.jobs.completed) == (2, 1, 3)
    assert (health.workers.idle, health.workers.throttled, health.workers.unhealthy) == (1, 2, 0)


@pytest.mark.parametrize(
    "trick", [replies(500), replies(200, html=HTML), replies(200, json={"workers": "many"}), replies(429)]
)
@in_virtual_time
async def test_health_that_cannot_be_had_is_given_up_within_seconds(trick: Trick) -> None:
    """A person waits for it: ten seconds of trouble are enough."""
    fake = FakeRunPod()
    fake.before["health"].extend([trick] * 100)
    began = now()
    async with endpoint(fake) as client:
        with pytest.raises(EndpointUnavailable):
            await client.health()
    assert now() - began < 11


# Many jobs


async def many(fake: FakeRunPod, count: int, at_once: int) -> float:
    """Synthesize `count` clips, `at_once` in flight, after one alone; return the seconds they took."""
    room = asyncio.Semaphore(at_once)
    async with endpoint(fake) as client:
        await synthesize(client)

        async def one() -> None:
            async with room:
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
    """Ends are noticed within half a second, with fewer than half of the calls RunPod allows."""
    fake = FakeRunPod(*[Plan(run=seconds)] * 401, latency=0.08)
    took = await many(fake, 400, 100)
    assert took / 4 < seconds + 0.5 + 0.3  # the calls' own latency is 0.16 s, the submissions' queue the rest
    assert busiest(fake, "status") <= 1_000
    assert fake.most_at_once["status"] <= 200
    assert fake.most_at_once["run"] <= 100
    assert fake.count("status") < 2.5 * 400


@in_virtual_time
async def test_looks_stay_below_the_limit_however_uneven_the_jobs() -> None:
    """Jobs of one to ten seconds, 200 in flight: the rate holds, and every clip comes."""
    plans = [Plan(queue=n % 3, run=1 + n * 7 % 10) for n in range(301)]
    fake = FakeRunPod(*plans, latency=0.05)
    fake.allowed = {"status": 2_000, "run": 1_000}
    await many(fake, 300, 200)
    assert busiest(fake, "status") <= 1_000
    assert len(fake.jobs) == 301


@pytest.mark.parametrize(("seconds", "late"), [(0.3, 0.12), (2.0, 0.2), (6.0, 0.5)])
@in_virtual_time
async def test_a_first_job_is_noticed_in_time_though_nothing_was_learned(seconds: float, late: float) -> None:
    """Looks come in steps of a small part of the job's age: short jobs are not made to wait."""
    fake = FakeRunPod(Plan(run=seconds))
    began = now()
    await speak(fake)
    assert now() - began < seconds + late


@in_virtual_time
async def test_a_job_quicker_than_those_before_corrects_the_next() -> None:
    """What was learned from slow jobs is unlearned with the first quick one."""
    fake = FakeRunPod(Plan(run=8), Plan(run=1), Plan(run=1))
    async with endpoint(fake) as client:
        await synthesize(client)
        await synthesize(client)
        began = now()
        await synthesize(client)
    assert now() - began < 1.3


# The key


@in_virtual_time
async def test_the_key_is_in_no_repr_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Even a server that repeats the key in its explanation does not get it into a message."""
    caplog.set_level("DEBUG")
    fake = FakeRunPod()
    echo = {"error": f"bad header: Bearer {KEY}"}
    for operation in ("run", "status", "health"):
        fake.before[operation].append(replies(400, json=echo))
    said: list[str] = []
    async with endpoint(fake) as client:
        said.append(repr(client))
        for call in (client.run(REQUEST, POLICY), client.status("job-1"), client.health()):
            with pytest.raises(EndpointRefused) as caught:
                await call
            said += [str(caught.value), repr(caught.value), json.dumps(caught.value.__dict__)]
    assert not [text for text in [*said, caplog.text] if KEY in text]
    assert "ep-1" in said[0]


@in_virtual_time
async def test_an_answer_over_the_limit_is_refused_while_it_is_read() -> None:
    """A huge output costs no more memory than the limit, and is not fetched again."""
    fake = FakeRunPod(Plan(run=0, end=completed(clip_output(audio_base64="A" * 200_000))))
    async with endpoint(fake, limits=Limits(response_bytes=100_000)) as client:
        job_id = await client.run(REQUEST, POLICY)
        with pytest.raises(BadResult, match="100,000 bytes"):
            await client.result(job_id, deadline_seconds=60)
    assert fake.count("status") == 1
