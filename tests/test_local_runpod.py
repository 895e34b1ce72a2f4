"""The local endpoint with a real worker loop in a real process: jobs, failures, cancelling, secrets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from support.local_processes import JobClient, SlowSample, job_client, process_tree, wait_until, worker_of
from support.worker import decoded, file, inline, sample, serving

from infra.local_runpod.endpoint import LocalEndpointOptions, serve_endpoint
from infra.local_runpod.launch import RunningEndpoint, local_runpod
from narration.contract import DRAFT_MODEL


@pytest.fixture(scope="module")
def endpoint() -> Iterator[RunningEndpoint]:
    """One endpoint for all tests here."""
    environment = {
        "WORKER_ALLOW_PRIVATE_URLS": "1",
        "VOICE_SAMPLE_TRANSCRIPT": "what it says",
        "RUNPOD_API_KEY": "rpa_secret",
        "AWS_SECRET_ACCESS_KEY": "s3_secret",
        "HF_TOKEN": "hub_secret",
    }
    with local_runpod(slots=8, env=environment) as running:
        yield running


@pytest.fixture
def client(endpoint: RunningEndpoint) -> Iterator[JobClient]:
    """A client of the endpoint."""
    with job_client(endpoint) as opened:
        yield opened


def test_the_real_worker_loop_speaks_several_jobs_at_once(client: JobClient) -> None:
    """Eight jobs with eight texts make eight clips, and all eight are in the worker at the same time."""
    all_there = threading.Barrier(8)

    def answer_when_all_are_there(request: BaseHTTPRequestHandler) -> None:
        all_there.wait(100)
        file(sample())(request)

    with serving(answer_when_all_are_there) as url:
        texts = [f"Chunk number {number}, in words." for number in range(8)]
        jobs = [client.run(prompt=text, audio_url=url, audio_format="flac") for text in texts]
        statuses = [client.wait_for_end(job) for job in jobs]
    assert [status["status"] for status in statuses] == ["COMPLETED"] * 8
    assert len({status["output"]["audio_base64"] for status in statuses}) == 8
    for status in statuses:
        assert status["output"]["model"] == DRAFT_MODEL
        assert decoded(status["output"])[0].size == status["output"]["frames"] * 960
        assert {"delayTime", "executionTime", "workerId"} < set(status)


def test_the_same_request_makes_the_same_clip(client: JobClient) -> None:
    """Through queue, worker loop and engine, to the byte."""
    jobs = [client.run(prompt="Same words.", seed=3) for _ in range(3)]
    assert len({client.wait_for_end(job)["output"]["audio_base64"] for job in jobs}) == 1


@pytest.mark.parametrize(
    ("job_input", "code", "retryable"),
    [
        ({}, "invalid_input", False),
        ({"prompt": " "}, "invalid_input", False),
        ({"prompt": "x", "model": "higgs/other"}, "model_mismatch", False),
        ({"prompt": "x", "audio_base64": inline(b"no audio")}, "sample_not_audio", False),
        ({"prompt": "x", "audio_url": "http://127.0.0.1:9/none.wav"}, "sample_unreachable", True),
    ],
)
def test_bad_input_fails_with_a_code(
    client: JobClient, job_input: dict[str, Any], code: str, retryable: bool
) -> None:
    """The code, and whether to try again, survive the SDK's own rewording of errors."""
    status = client.wait_for_end(client.run(**job_input))
    assert status["status"] == "FAILED"
    assert status["error"]
    assert status["output"] == {"error_code": code, "retryable": retryable}


def test_a_cancelled_job_is_stopped_in_the_worker(endpoint: RunningEndpoint, client: JobClient) -> None:
    """The running job ends, its late result is ignored, and the worker takes the next job."""
    slow = SlowSample()
    with slow.served() as url:
        job = client.run(prompt="x", audio_url=url)
        assert slow.requested.wait(60)
        client.cancel(job)
        assert client.status(job)["status"] == "CANCELLED"
        wait_until(lambda: "Job stopped" in endpoint.log())
        assert client.wait_for_end(client.run(prompt="after it"))["status"] == "COMPLETED"
    assert client.status(job)["status"] == "CANCELLED"


def test_a_worker_gets_its_settings_and_no_keys(endpoint: RunningEndpoint) -> None:
    """Secrets of the machine and of the pipeline are in no process's environment or arguments."""
    processes = process_tree(psutil.Process(endpoint.pid))
    worker = worker_of(endpoint).environ()
    assert worker["WORKER_ENGINE"] == "draft"
    assert worker["WORKER_SLOTS"] == "8"
    assert worker["VOICE_SAMPLE_TRANSCRIPT"] == "what it says"
    for process in processes:
        assert not any("secret" in value for value in process.environ().values())
        assert endpoint.api_key not in " ".join(process.cmdline())
        if process.pid != endpoint.pid:
            assert endpoint.api_key not in process.environ().values()


def test_it_listens_on_loopback_only(endpoint: RunningEndpoint) -> None:
    """Other machines of the network cannot reach it."""
    addresses = [
        connection.laddr.ip
        for process in process_tree(psutil.Process(endpoint.pid))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert addresses == ["127.0.0.1"]


def test_the_log_holds_no_text_and_no_key(endpoint: RunningEndpoint, client: JobClient) -> None:
    """Whatever the requests hold, the log names only jobs and numbers."""
    with serving(file(sample())) as url:
        client.wait_for_end(client.run(prompt="unmistakable words", audio_url=f"{url}?signature=hidden"))
    client.wait_for_end(client.run(prompt="unmistakable words", temperature="unmistakable"))
    wait_until(lambda: "invalid_input" in endpoint.log())
    for secret in ("unmistakable", "hidden", endpoint.api_key, "UklGR"):
        assert secret not in endpoint.log()


class RefusedResults:
    """Middleware that refuses posted results with the next of `statuses` while there are any."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.sent: list[int] = []

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if "/job-done/" in scope["path"] and self.statuses:
                self.sent.append(self.statuses.pop(0))
                await PlainTextResponse("no", status_code=self.sent[-1])(scope, receive, send)
            else:
                await app(scope, receive, send)

        return handle


async def test_a_refused_result_is_posted_again_or_made_again() -> None:
    """The SDK posts again after 500 and drops the result after 400; then the job's pings stop."""
    refused = RefusedResults()
    now, ahead = time.monotonic, 0.0
    options = LocalEndpointOptions(api_key="key", environment={"WORKER_ENGINE": "draft"})
    key = {"Authorization": "Bearer key"}
    async with (
        serve_endpoint(options, wrap=refused, clock=lambda: now() + ahead) as endpoint,
        httpx.AsyncClient(base_url=endpoint.base_url, headers=key, verify=False) as client,
    ):

        async def wait_for(job: str, *statuses: str) -> dict[str, Any]:
            async with asyncio.timeout(120):
                while True:
                    status: dict[str, Any] = (await client.get(f"/local/status/{job}")).json()
                    if status["status"] in statuses:
                        return status
                    await asyncio.sleep(0.05)

        async def run(prompt: str) -> str:
            response = await client.post("/local/run", json={"input": {"prompt": prompt}})
            return str(response.json()["id"])

        refused.statuses = [500, 502]
        late = await wait_for(await run("answered late"), "COMPLETED", "FAILED")
        assert (late["status"], refused.sent) == ("COMPLETED", [500, 502])
        assert "retries" not in late

        refused.statuses = [400]
        job = await run("answered in vain")
        async with asyncio.timeout(120):
            while refused.statuses:  # noqa: ASYNC110  # changed by another process's request
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # time for a second post, which must not come
        assert refused.sent == [500, 502, 400]
        assert await wait_for(job, "IN_PROGRESS")
        ahead = 31
        again = await wait_for(job, "COMPLETED", "FAILED")
        assert (again["status"], again["retries"]) == ("COMPLETED", 1)
