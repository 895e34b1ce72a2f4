"""The local endpoint's API for clients, over HTTP: key, limits, responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from support.local_apis import INPUT, LocalApis, local_apis

from infra.local_runpod import change_notifier, worker_api


@pytest.fixture
async def apis() -> AsyncIterator[LocalApis]:
    """An endpoint without workers."""
    async with local_apis() as opened:
        yield opened


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer key2", "Basic a2V5", "Bearer kéy"]
)
async def test_clients_without_the_key_are_refused(apis: LocalApis, header: str | None) -> None:
    """No route accepts another key, or shows whether a job exists."""
    job = await apis.run()
    headers = {} if header is None else {b"Authorization": header.encode()}
    async with httpx.AsyncClient(base_url=apis.endpoint.base_url, verify=False) as client:
        for method, path in [
            ("POST", "run"),
            ("POST", "runsync"),
            ("GET", f"status/{job}"),
            ("POST", f"cancel/{job}"),
            ("POST", f"retry/{job}"),
            ("POST", "purge-queue"),
            ("GET", "health"),
        ]:
            response = await client.request(method, f"/local/{path}", headers=headers, json=INPUT)
            assert response.status_code == 401
    assert (await apis.status(job))["status"] == "IN_QUEUE"


async def test_unknown_endpoints_jobs_and_methods_are_refused(apis: LocalApis) -> None:
    """404 for an unknown endpoint or job, 405 for the wrong method."""
    assert (await apis.client.post("/other/run", json=INPUT)).status_code == 404
    assert (await apis.client.get("/local/status/nothing")).status_code == 404
    assert (await apis.client.post("/local/cancel/nothing")).status_code == 404
    assert (await apis.client.post("/local/retry/nothing")).status_code == 404
    assert (await apis.client.get("/local/run")).status_code == 405
    assert (await apis.client.post("/local/health")).status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"input"', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_not_a_json_object_is_refused(apis: LocalApis, body: bytes) -> None:
    """No job is queued."""
    assert (await apis.client.post("/local/run", content=body)).status_code == 400
    assert apis.endpoint.queue.health()["jobs"]["inQueue"] == 0


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
async def test_a_policy_out_of_range_is_refused(apis: LocalApis, policy: Any) -> None:
    """A limit that RunPod does not offer is not silently replaced by another."""
    response = await apis.client.post("/local/run", json=INPUT | {"policy": policy})
    assert response.status_code == 400
    assert "policy" in response.json()["error"]


async def test_a_request_over_ten_megabytes_is_refused(apis: LocalApis) -> None:
    """RunPod's limit; the client receives the response although it sent too much."""
    fits = {"input": {"prompt": "x", "audio_base64": "A" * 9_999_000}}
    over = {"input": {"prompt": "x", "audio_base64": "A" * 10_000_000}}
    assert (await apis.client.post("/local/run", json=fits)).status_code == 200
    assert (await apis.client.post("/local/run", json=over)).status_code == 413
    assert apis.endpoint.queue.health()["jobs"]["inQueue"] == 1


async def test_runsync_returns_the_result(apis: LocalApis) -> None:
    """The response is sent once the job has ended."""
    call = asyncio.create_task(apis.client.post("/local/runsync", json=INPUT))
    job = (await apis.take()).json()["id"]
    await apis.done(job, b'{"output": "clip"}')
    status = (await call).json()
    assert (status["id"], status["status"], status["output"]) == (job, "COMPLETED", "clip")
    assert job.startswith("sync-")


async def test_runsync_returns_the_status_when_its_time_is_up(apis: LocalApis) -> None:
    """200 and the id, by which the client can go on with /status."""
    response = await apis.client.post("/local/runsync?wait=1000", json=INPUT)
    assert response.status_code == 200
    assert response.json()["status"] == "IN_QUEUE"
    assert (await apis.status(response.json()["id"]))["status"] == "IN_QUEUE"


@pytest.mark.parametrize("wait", ["999", "300001", "-1", "soon", "1e4", "9" * 5000])
async def test_a_wait_out_of_range_is_refused_and_no_job_is_queued(apis: LocalApis, wait: str) -> None:
    """With RunPod's message."""
    response = await apis.client.post(f"/local/runsync?wait={wait}", json=INPUT)
    assert response.status_code == 400
    assert response.json() == {"error": "wait is invalid; must be between 1000 and 300000"}
    assert apis.endpoint.queue.health()["jobs"]["inQueue"] == 0


async def test_retry_queues_a_failed_job_and_purge_removes_queued_jobs(apis: LocalApis) -> None:
    """A failed job is queued again under its id; other jobs cannot be retried."""
    job = await apis.run()
    assert (await apis.client.post(f"/local/retry/{job}")).status_code == 400
    await apis.take()
    await apis.done(job, b'{"error": "it broke"}')
    assert (await apis.status(job))["status"] == "FAILED"
    assert (await apis.client.post(f"/local/retry/{job}")).json() == {"id": job, "status": "IN_QUEUE"}
    purged = await apis.client.post("/local/purge-queue")
    assert purged.json() == {"removed": 1, "status": "completed"}


async def test_middleware_can_make_faults() -> None:
    """Middleware sees every request, so that outages can be made without a switch in the endpoint."""

    def refuse_health(app: ASGIApp) -> ASGIApp:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].endswith("/health"):
                await PlainTextResponse("busy", status_code=503)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return handle

    async with local_apis(wrap=refuse_health) as apis:
        assert (await apis.client.get("/local/health")).status_code == 503
        await apis.run()


async def test_closing_does_not_wait_for_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that closes answers waiting workers at once."""
    monkeypatch.setattr(worker_api, "POLL_SECONDS", 600)
    monkeypatch.setattr(change_notifier, "DISCONNECT_CHECK_SECONDS", 600)
    async with local_apis() as apis:
        polls = [asyncio.create_task(apis.take()), asyncio.create_task(apis.stop_requests())]
        await asyncio.sleep(0.2)
        started = time.perf_counter()
        apis.client.headers["Connection"] = "close"
        ended = asyncio.create_task(asyncio.wait(polls))
    assert time.perf_counter() - started < 60
    await ended
