"""The local endpoint's API for workers, over HTTP: token, polls, results, requests to stop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from support.local_apis import LocalApis, local_apis

from infra.local_runpod import change_notifier, worker_api


@pytest.fixture
async def apis() -> AsyncIterator[LocalApis]:
    """An endpoint without workers."""
    async with local_apis() as opened:
        yield opened


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls without a job end soon."""
    monkeypatch.setattr(worker_api, "POLL_SECONDS", 0.2)


@pytest.fixture
def long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls end within the test's time only when the queue changes."""
    monkeypatch.setattr(worker_api, "POLL_SECONDS", 600)
    monkeypatch.setattr(change_notifier, "DISCONNECT_CHECK_SECONDS", 600)


async def test_workers_without_the_token_are_refused(apis: LocalApis) -> None:
    """The key for clients does not open the API for workers."""
    job = await apis.run()
    for path in ("job-take/w", "job-take-batch/w", "job-stop/w", "ping/w"):
        for query in ("", "?token=", "?token=key"):
            assert (await apis.client.get(f"/local/{path}{query}")).status_code == 401
    assert (await apis.client.post(f"/local/job-done/w/{job}", json={"output": 1})).status_code == 401


ODD_JSON = [rb'"\ud800"', b"NaN", b"1e999", rb'{"\udfff": -Infinity}', b"[[[[1]]]]", b"9" * 4_000]


async def test_any_json_reaches_the_worker_with_its_whole_batch(apis: LocalApis) -> None:
    """A value that only the worker can judge is passed to it, and costs no other job of the batch."""
    values = [json.loads(text) for text in ODD_JSON]
    for text in (*ODD_JSON, b'"x"'):
        response = await apis.client.post("/local/run", content=b'{"input":{"prompt":%b}}' % text)
        assert response.status_code == 200
    jobs = (await apis.take(batch=10)).json()
    assert str([job["input"]["prompt"] for job in jobs]) == str([*values, "x"])
    for job, text in zip(jobs, ODD_JSON, strict=False):
        assert (await apis.done(job["id"], b'{"output":{"value":%b}}' % text)).status_code == 200
    outputs = [(await apis.status(job["id"]))["output"]["value"] for job in jobs[: len(ODD_JSON)]]
    assert str(outputs) == str(values)


async def test_a_job_passes_through_both_apis(apis: LocalApis) -> None:
    """A worker takes the job that a client submitted; the client reads the result that the worker posted."""
    job = await apis.run()
    assert (await apis.take()).json() == {"id": job, "input": {"prompt": "x"}}
    assert (await apis.status(job))["status"] == "IN_PROGRESS"
    assert (await apis.done(job, b'{"output": {"audio": "AAAA"}}')).status_code == 200
    status = await apis.status(job)
    assert (status["status"], status["output"], status["workerId"]) == (
        "COMPLETED",
        {"audio": "AAAA"},
        "hand",
    )
    assert {"delayTime", "executionTime"} < set(status)


async def test_a_batch_is_a_list(apis: LocalApis) -> None:
    """The SDK asks for as many jobs as it has free slots."""
    jobs = [await apis.run() for _ in range(3)]
    assert [job["id"] for job in (await apis.take(2)).json()] == jobs[:2]
    assert [job["id"] for job in (await apis.take(2)).json()] == jobs[2:]


@pytest.mark.usefixtures("short_polls")
async def test_a_poll_without_a_job_is_answered_with_204_after_a_while(apis: LocalApis) -> None:
    """So are polls for a batch and for jobs to stop."""
    started = time.perf_counter()
    responses = await asyncio.gather(apis.take(), apis.take(2), apis.stop_requests())
    assert [response.status_code for response in responses] == [204] * 3
    assert time.perf_counter() - started >= 0.2


@pytest.mark.usefixtures("long_polls")
async def test_a_waiting_poll_gets_a_new_job_at_once(apis: LocalApis) -> None:
    """A submission wakes the polls that wait."""
    poll = asyncio.create_task(apis.take())
    await asyncio.sleep(0.2)
    job = await apis.run()
    async with asyncio.timeout(60):
        assert (await poll).json()["id"] == job


async def test_a_worker_that_has_disconnected_gets_no_job(apis: LocalApis) -> None:
    """A poll whose worker has died does not take the next job out of the queue."""
    poll = asyncio.create_task(apis.take())
    await asyncio.sleep(0.2)
    poll.cancel()
    await asyncio.sleep(0.2)
    job = await apis.run()
    await asyncio.sleep(0.2)
    assert (await apis.status(job))["status"] == "IN_QUEUE"


@pytest.mark.usefixtures("long_polls")
async def test_the_worker_of_a_cancelled_job_is_asked_at_once_to_stop_it(apis: LocalApis) -> None:
    """It does not have to wait for its next ping."""
    job = await apis.run()
    await apis.take()
    poll = asyncio.create_task(apis.stop_requests())
    await asyncio.sleep(0.1)
    assert (await apis.client.post(f"/local/cancel/{job}")).json() == {"id": job, "status": "CANCELLED"}
    assert (await asyncio.wait_for(poll, 60)).json() == {"jobsToStop": [job]}


@pytest.mark.usefixtures("long_polls")
async def test_time_limits_are_applied_without_any_request() -> None:
    """A running job is stopped when its time is up, by the clock alone."""
    now = time.monotonic
    ahead = 0.0
    async with local_apis(clock=lambda: now() + ahead) as apis:
        job = await apis.run(policy={"executionTimeout": 5_000})
        await apis.take()
        poll = asyncio.create_task(apis.stop_requests())
        ahead = 6
        assert (await asyncio.wait_for(poll, 60)).json() == {"jobsToStop": [job]}
        assert (await apis.status(job))["status"] == "TIMED_OUT"


async def test_a_result_over_ten_megabytes_is_lost_as_at_runpod(apis: LocalApis) -> None:
    """The worker gets 400 and drops the result; the client sees a completed job without output."""
    job = await apis.run()
    await apis.take()
    huge = json.dumps({"output": "A" * 10_000_000}).encode()
    assert (await apis.done(job, huge)).status_code == 400
    status = await apis.status(job)
    assert status["status"] == "COMPLETED"
    assert "output" not in status


async def test_a_result_for_an_unknown_job_is_refused_with_404(apis: LocalApis) -> None:
    """The worker logs it; nothing else can be done."""
    assert (await apis.done("nothing", b'{"output": 1}')).status_code == 404
    assert (await apis.done("nothing", b'{"output": "' + b"A" * 10_000_000 + b'"}')).status_code == 404


async def test_progress_is_shown_until_the_result_arrives(apis: LocalApis) -> None:
    """An update is shown as output while the job is in progress, and then replaced."""
    job = await apis.run()
    await apis.take()
    await apis.done(job, b'{"status": "IN_PROGRESS", "output": "half"}')
    assert (await apis.status(job))["output"] == "half"
    await apis.done(job, b'{"output": "whole"}')
    assert (await apis.status(job))["output"] == "whole"
