"""The local endpoint over HTTP: its two sides and their rules, with a worker played by hand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.local_runpod import change_notifier, worker_api
from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint

INPUT = {"input": {"prompt": "x"}}


@dataclass
class Sides:
    """An endpoint, a client with its key, and the worker's URLs for a worker of one's own."""

    endpoint: LocalEndpoint
    client: httpx.AsyncClient
    urls: dict[str, str]

    async def run(self, **body: Any) -> str:
        """Submit; the job's id."""
        answer = await self.client.post("/local/run", json=INPUT | body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "IN_QUEUE"
        return str(answer.json()["id"])

    async def status(self, job: str) -> dict[str, Any]:
        """What /status says."""
        answer = await self.client.get(f"/local/status/{job}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def take(self, batch: int = 1) -> httpx.Response:
        """A poll, worded as the SDK words it."""
        url = self.urls["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", "hand") + "&job_in_progress=0"
        if batch > 1:
            url = url.replace("/job-take/", "/job-take-batch/") + f"&batch_size={batch}"
        return await self.client.get(url)

    async def done(self, job: str, result: bytes) -> httpx.Response:
        """A result, posted as the SDK posts it."""
        url = self.urls["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", "hand").replace("$ID", job)
        return await self.client.post(
            url + "&isStream=false",
            content=result,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    async def stops(self) -> httpx.Response:
        """The stop channel's poll."""
        url = self.urls["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", "hand").replace("job-take", "job-stop")
        return await self.client.get(url)


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Sides]:
    """An endpoint without workers, and both ways in."""
    async with serve_endpoint(LocalEndpointOptions(workers=0, api_key="key"), **options) as endpoint:
        headers = {"Authorization": "Bearer key"}
        async with httpx.AsyncClient(
            base_url=endpoint.base_url, headers=headers, timeout=30, verify=False
        ) as client:
            yield Sides(endpoint, client, endpoint.worker_variables("hand"))


@pytest.fixture
async def sides() -> AsyncIterator[Sides]:
    """An endpoint without workers, and both ways in."""
    async with opened() as both:
        yield both


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty polls that end soon."""
    monkeypatch.setattr(worker_api, "POLL_SECONDS", 0.2)


@pytest.fixture
def long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls that only news can end within a test's patience."""
    monkeypatch.setattr(worker_api, "POLL_SECONDS", 600)
    monkeypatch.setattr(change_notifier, "_SLICE", 600)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer key2", "Basic a2V5", "Bearer kéy"]
)
async def test_clients_without_the_key_are_refused(sides: Sides, header: str | None) -> None:
    """No route answers to another key, or says whether a job exists."""
    job = await sides.run()
    headers = {} if header is None else {b"Authorization": header.encode()}
    async with httpx.AsyncClient(base_url=sides.endpoint.base_url, verify=False) as client:
        for method, path in [
            ("POST", "run"),
            ("POST", "runsync"),
            ("GET", f"status/{job}"),
            ("POST", f"cancel/{job}"),
            ("POST", f"retry/{job}"),
            ("POST", "purge-queue"),
            ("GET", "health"),
        ]:
            answer = await client.request(method, f"/local/{path}", headers=headers, json=INPUT)
            assert answer.status_code == 401
    assert (await sides.status(job))["status"] == "IN_QUEUE"


async def test_workers_without_the_token_are_refused(sides: Sides) -> None:
    """A client's key opens the client's side only."""
    job = await sides.run()
    for path in ("job-take/w", "job-take-batch/w", "job-stop/w", "ping/w"):
        for query in ("", "?token=", "?token=key"):
            assert (await sides.client.get(f"/local/{path}{query}")).status_code == 401
    assert (await sides.client.post(f"/local/job-done/w/{job}", json={"output": 1})).status_code == 401


ODD = [rb'"\ud800"', b"NaN", b"1e999", rb'{"\udfff": -Infinity}', b"[[[[1]]]]", b"9" * 4_000]


async def test_whatever_json_a_job_holds_reaches_its_worker_and_its_neighbours_too(sides: Sides) -> None:
    """What only the worker can judge is handed to it, and no other job of the batch is lost over it."""
    given = [json.loads(value) for value in ODD]
    for value in (*ODD, b'"x"'):
        answer = await sides.client.post("/local/run", content=b'{"input":{"prompt":%b}}' % value)
        assert answer.status_code == 200
    taken = (await sides.take(batch=10)).json()
    assert str([job["input"]["prompt"] for job in taken]) == str([*given, "x"])
    for job, value in zip(taken, ODD, strict=False):
        assert (await sides.done(job["id"], b'{"output":{"said":%b}}' % value)).status_code == 200
    said = [(await sides.status(job["id"]))["output"]["said"] for job in taken[: len(ODD)]]
    assert str(said) == str(given)


async def test_unknown_endpoints_jobs_and_methods(sides: Sides) -> None:
    """404 for what is not there, 405 for the wrong verb."""
    assert (await sides.client.post("/other/run", json=INPUT)).status_code == 404
    assert (await sides.client.get("/local/status/nothing")).status_code == 404
    assert (await sides.client.post("/local/cancel/nothing")).status_code == 404
    assert (await sides.client.post("/local/retry/nothing")).status_code == 404
    assert (await sides.client.get("/local/run")).status_code == 405
    assert (await sides.client.post("/local/health")).status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"input"', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(sides: Sides, body: bytes) -> None:
    """Before anything is queued."""
    assert (await sides.client.post("/local/run", content=body)).status_code == 400
    assert sides.endpoint.queue.health()["jobs"]["inQueue"] == 0


@pytest.mark.parametrize(
    "policy",
    [
        [],
        {"executionTimeout": 4_999},
        {"executionTimeout": 604_800_001},
        {"executionTimeout": "60000"},
        {"executionTimeout": True},
        {"ttl": 9_999},
        {"ttl": 1.5e5},
    ],
)
async def test_a_policy_out_of_range_is_refused(sides: Sides, policy: Any) -> None:
    """Limits that RunPod does not offer do not quietly become others."""
    answer = await sides.client.post("/local/run", json=INPUT | {"policy": policy})
    assert answer.status_code == 400
    assert "policy" in answer.json()["error"]


async def test_a_request_over_ten_megabytes_is_refused(sides: Sides) -> None:
    """RunPod's limit, and the sender gets to read the answer."""
    fits = {"input": {"prompt": "x", "audio_base64": "A" * 9_999_000}}
    over = {"input": {"prompt": "x", "audio_base64": "A" * 10_000_000}}
    assert (await sides.client.post("/local/run", json=fits)).status_code == 200
    assert (await sides.client.post("/local/run", json=over)).status_code == 413
    assert sides.endpoint.queue.health()["jobs"]["inQueue"] == 1


async def test_a_job_passes_through_both_sides(sides: Sides) -> None:
    """What a client submits a worker takes; what the worker posts the client reads."""
    job = await sides.run()
    taken = await sides.take()
    assert taken.json() == {"id": job, "input": {"prompt": "x"}}
    assert (await sides.status(job))["status"] == "IN_PROGRESS"
    assert (await sides.done(job, b'{"output": {"audio": "AAAA"}}')).status_code == 200
    status = await sides.status(job)
    assert (status["status"], status["output"], status["workerId"]) == (
        "COMPLETED",
        {"audio": "AAAA"},
        "hand",
    )
    assert {"delayTime", "executionTime"} < set(status)


async def test_a_batch_is_a_list(sides: Sides) -> None:
    """The SDK asks for as many jobs as it has free slots."""
    jobs = [await sides.run() for _ in range(3)]
    assert [job["id"] for job in (await sides.take(2)).json()] == jobs[:2]
    assert [job["id"] for job in (await sides.take(2)).json()] == jobs[2:]


@pytest.mark.usefixtures("short_polls")
async def test_an_empty_poll_is_held_and_answered_with_nothing(sides: Sides) -> None:
    """204 after a while, for each kind of poll."""
    started = time.perf_counter()
    answers = await asyncio.gather(sides.take(), sides.take(2), sides.stops())
    assert [answer.status_code for answer in answers] == [204] * 3
    assert time.perf_counter() - started >= 0.2


@pytest.mark.usefixtures("long_polls")
async def test_a_held_poll_gets_a_new_job_at_once(sides: Sides) -> None:
    """A submission wakes whoever waits."""
    poll = asyncio.create_task(sides.take())
    await asyncio.sleep(0.2)
    job = await sides.run()
    async with asyncio.timeout(60):
        assert (await poll).json()["id"] == job


async def test_a_worker_that_hung_up_gets_no_job(sides: Sides) -> None:
    """A poll whose caller has died does not swallow the next job."""
    poll = asyncio.create_task(sides.take())
    await asyncio.sleep(0.2)
    poll.cancel()
    await asyncio.sleep(0.2)
    job = await sides.run()
    await asyncio.sleep(0.2)
    assert (await sides.status(job))["status"] == "IN_QUEUE"


@pytest.mark.usefixtures("long_polls")
async def test_a_cancelled_job_reaches_the_stop_channel_at_once(sides: Sides) -> None:
    """The worker hears of it without waiting for its next ping."""
    job = await sides.run()
    await sides.take()
    poll = asyncio.create_task(sides.stops())
    await asyncio.sleep(0.1)
    assert (await sides.client.post(f"/local/cancel/{job}")).json() == {"id": job, "status": "CANCELLED"}
    assert (await asyncio.wait_for(poll, 60)).json() == {"jobsToStop": [job]}


async def test_a_result_over_ten_megabytes_is_lost_as_at_runpod(sides: Sides) -> None:
    """400 to the worker, which drops it; completed without output to the client."""
    job = await sides.run()
    await sides.take()
    huge = json.dumps({"output": "A" * 10_000_000}).encode()
    assert (await sides.done(job, huge)).status_code == 400
    status = await sides.status(job)
    assert status["status"] == "COMPLETED"
    assert "output" not in status


async def test_a_result_for_a_job_that_is_gone_is_not_found(sides: Sides) -> None:
    """The worker's log says so; nothing else can."""
    assert (await sides.done("nothing", b'{"output": 1}')).status_code == 404
    assert (await sides.done("nothing", b'{"output": "' + b"A" * 10_000_000 + b'"}')).status_code == 404


async def test_progress_is_shown_and_is_not_the_result(sides: Sides) -> None:
    """An update shows as output while the job is in progress, then gives way."""
    job = await sides.run()
    await sides.take()
    await sides.done(job, b'{"status": "IN_PROGRESS", "output": "half"}')
    assert (await sides.status(job))["output"] == "half"
    await sides.done(job, b'{"output": "whole"}')
    assert (await sides.status(job))["output"] == "whole"


async def test_runsync_answers_with_the_result(sides: Sides) -> None:
    """The call is held until the job has ended."""
    call = asyncio.create_task(sides.client.post("/local/runsync", json=INPUT))
    job = (await sides.take()).json()["id"]
    await sides.done(job, b'{"output": "clip"}')
    answer = (await call).json()
    assert (answer["id"], answer["status"], answer["output"]) == (job, "COMPLETED", "clip")
    assert job.startswith("sync-")


async def test_runsync_answers_with_the_state_when_its_time_is_up(sides: Sides) -> None:
    """200 and the id, to go on with /status."""
    answer = await sides.client.post("/local/runsync?wait=1000", json=INPUT)
    assert answer.status_code == 200
    assert answer.json()["status"] == "IN_QUEUE"
    assert (await sides.status(answer.json()["id"]))["status"] == "IN_QUEUE"


@pytest.mark.parametrize("wait", ["999", "300001", "-1", "soon", "1e4", "9" * 5000])
async def test_a_wait_out_of_range_is_refused_before_a_job_is_made(sides: Sides, wait: str) -> None:
    """In RunPod's words."""
    answer = await sides.client.post(f"/local/runsync?wait={wait}", json=INPUT)
    assert answer.status_code == 400
    assert answer.json() == {"error": "wait is invalid; must be between 1000 and 300000"}
    assert sides.endpoint.queue.health()["jobs"]["inQueue"] == 0


async def test_retry_and_purge(sides: Sides) -> None:
    """A failed job is queued again under its id; a purge removes what waits."""
    job = await sides.run()
    assert (await sides.client.post(f"/local/retry/{job}")).status_code == 400
    await sides.take()
    await sides.done(job, b'{"error": "it broke"}')
    assert (await sides.status(job))["status"] == "FAILED"
    assert (await sides.client.post(f"/local/retry/{job}")).json() == {"id": job, "status": "IN_QUEUE"}
    purged = await sides.client.post("/local/purge-queue")
    assert purged.json() == {"removed": 1, "status": "completed"}


@pytest.mark.usefixtures("long_polls")
async def test_limits_pass_without_anybody_asking() -> None:
    """A running job is stopped when its time is up, by the clock alone."""
    now = time.monotonic
    ahead = 0.0
    async with opened(clock=lambda: now() + ahead) as sides:
        job = await sides.run(policy={"executionTimeout": 5_000})
        await sides.take()
        poll = asyncio.create_task(sides.stops())
        ahead = 6
        assert (await asyncio.wait_for(poll, 60)).json() == {"jobsToStop": [job]}
        assert (await sides.status(job))["status"] == "TIMED_OUT"


async def test_faults_can_be_put_around_the_endpoint() -> None:
    """Middleware sees every request, so that outages need no switch in the endpoint."""

    def refusing(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].endswith("/health"):
                await PlainTextResponse("busy", status_code=503)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return answer

    async with opened(wrap=refusing) as sides:
        assert (await sides.client.get("/local/health")).status_code == 503
        await sides.run()


@pytest.mark.usefixtures("long_polls")
async def test_closing_does_not_wait_for_held_polls() -> None:
    """An endpoint that goes answers who waits, at once."""
    async with opened() as sides:
        polls = [asyncio.create_task(sides.take()), asyncio.create_task(sides.stops())]
        await asyncio.sleep(0.2)
        started = time.perf_counter()
        sides.client.headers["Connection"] = "close"
        leaving = asyncio.create_task(asyncio.wait(polls))
    assert time.perf_counter() - started < 60
    await leaving
