"""The local endpoint whole: real worker loops in real processes, and what is left when they die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from support.worker import decoded, file, inline, sample, serving

from infra.local_runpod.endpoint import LocalEndpointOptions, serve_endpoint
from infra.local_runpod.launch import RunningEndpoint, local_runpod, start_local_runpod
from narration.contract import DRAFT_MODEL
from narration.errors import EndpointUnavailable

ROOT = Path(__file__).parents[1]


class Client:
    """The job API of one endpoint."""

    def __init__(self, endpoint: RunningEndpoint) -> None:
        self._http = httpx.Client(
            base_url=f"{endpoint.base_url}/{endpoint.endpoint_id}",
            headers={"Authorization": f"Bearer {endpoint.api_key}"},
            timeout=30,
            verify=False,
        )

    def run(self, **job_input: Any) -> str:
        """Submit; the job's id."""
        return str(self._http.post("run", json={"input": job_input}).raise_for_status().json()["id"])

    def status(self, job: str) -> dict[str, Any]:
        """What /status says now."""
        return dict(self._http.get(f"status/{job}").raise_for_status().json())

    def until(self, job: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """What /status says once it is one of `statuses`."""
        deadline = time.monotonic() + seconds
        while (status := self.status(job))["status"] not in statuses:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status

    def ended(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """What /status says once the job has ended."""
        return self.until(job, "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", seconds=seconds)

    def cancel(self, job: str) -> None:
        """Cancel."""
        self._http.post(f"cancel/{job}").raise_for_status()

    def health(self) -> dict[str, dict[str, int]]:
        """Counts."""
        counts: dict[str, dict[str, int]] = self._http.get("health").raise_for_status().json()
        return counts

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()


@contextmanager
def client_of(endpoint: RunningEndpoint) -> Iterator[Client]:
    """A client, closed at the end."""
    client = Client(endpoint)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[RunningEndpoint]:
    """One endpoint for all tests that leave it as it was, or whose damage it mends itself."""
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
def client(endpoint: RunningEndpoint) -> Iterator[Client]:
    """A client of it."""
    with client_of(endpoint) as client:
        yield client


def worker_of(endpoint: RunningEndpoint) -> psutil.Process:
    """The process that runs the SDK's loop, under its keeper."""
    keepers = psutil.Process(endpoint.pid).children()
    assert len(keepers) == 1
    [worker] = keepers[0].children()
    assert "gpu_worker" in worker.cmdline()
    return worker


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Return when `what` is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started."""
    return [process, *process.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


class SlowSample:
    """A sample whose first download hangs until released; later ones come at once."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        if not self.begun.is_set():
            self.begun.set()
            self.release.wait(100)
        with contextlib.suppress(OSError):  # the worker may have died meanwhile
            file(sample())(request)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its URL."""
        with serving(self) as url:
            yield url
            self.release.set()


def test_jobs_are_spoken_several_at_a_time_by_the_real_loop(client: Client) -> None:
    """Eight jobs, eight clips of their own words; all eight are in the worker at once."""
    all_there = threading.Barrier(8)

    def when_all_are_there(request: BaseHTTPRequestHandler) -> None:
        all_there.wait(100)
        file(sample())(request)

    with serving(when_all_are_there) as url:
        words = [f"Chunk number {number}, in words." for number in range(8)]
        jobs = [client.run(prompt=text, audio_url=url, audio_format="flac") for text in words]
        ended = [client.ended(job) for job in jobs]
    assert [status["status"] for status in ended] == ["COMPLETED"] * 8
    assert len({status["output"]["audio_base64"] for status in ended}) == 8
    for status in ended:
        assert status["output"]["model"] == DRAFT_MODEL
        assert decoded(status["output"])[0].size == status["output"]["frames"] * 960
        assert {"delayTime", "executionTime", "workerId"} < set(status)


def test_the_same_request_gives_the_same_clip(client: Client) -> None:
    """Through queue, loop and engine, to the byte."""
    jobs = [client.run(prompt="Same words.", seed=3) for _ in range(3)]
    assert len({client.ended(job)["output"]["audio_base64"] for job in jobs}) == 1


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
def test_bad_input_ends_as_a_typed_failure(
    client: Client, job_input: dict[str, Any], code: str, retryable: bool
) -> None:
    """The code and whether to try again survive the SDK's own rewording of errors."""
    status = client.ended(client.run(**job_input))
    assert status["status"] == "FAILED"
    assert status["error"]
    assert status["output"] == {"error_code": code, "retryable": retryable}


def test_a_cancelled_job_is_stopped_in_the_worker(endpoint: RunningEndpoint, client: Client) -> None:
    """A running job ends, its late result is nobody's, and the worker goes on."""
    slow = SlowSample()
    with slow.served() as url:
        job = client.run(prompt="x", audio_url=url)
        assert slow.begun.wait(60)
        client.cancel(job)
        assert client.status(job)["status"] == "CANCELLED"
        wait_until(lambda: "Job stopped" in endpoint.log())
        assert client.ended(client.run(prompt="after it"))["status"] == "COMPLETED"
    assert client.status(job)["status"] == "CANCELLED"


def test_a_worker_sees_what_concerns_it_and_no_keys(endpoint: RunningEndpoint) -> None:
    """Settings pass; secrets of the machine and of the pipeline do not; none stands in an argument."""
    processes = family(psutil.Process(endpoint.pid))
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
    """Nobody else on the network reaches it."""
    listening = [
        connection.laddr.ip
        for process in family(psutil.Process(endpoint.pid))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_the_log_holds_no_text_and_no_key(endpoint: RunningEndpoint, client: Client) -> None:
    """Whatever was asked, the worker's output names jobs and figures."""
    with serving(file(sample())) as url:
        client.ended(client.run(prompt="unmistakable words", audio_url=f"{url}?signature=hidden"))
    client.ended(client.run(prompt="unmistakable words", temperature="unmistakable"))
    wait_until(lambda: "invalid_input" in endpoint.log())
    for secret in ("unmistakable", "hidden", endpoint.api_key, "UklGR"):
        assert secret not in endpoint.log()


def test_a_killed_workers_job_is_spoken_by_its_successor(endpoint: RunningEndpoint, client: Client) -> None:
    """SIGKILL in the middle of a job: dispatched once more, completed, and nothing of the dead is left."""
    slow = SlowSample()
    dead = family(worker_of(endpoint))
    assert len(dead) > 1  # the loop's pings come from a child of its own
    with slow.served() as url:
        job = client.run(prompt="twice begun", audio_url=url)
        assert slow.begun.wait(60)
        first = client.status(job)["workerId"]
        dead[0].kill()
        ended = client.ended(job)
    assert ended["status"] == "COMPLETED", ended
    assert ended["retries"] == 1
    assert ended["workerId"] != first
    wait_until(lambda: gone(dead))
    assert client.health()["workers"]["idle"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")
def test_a_terminated_worker_finishes_what_it_has(endpoint: RunningEndpoint, client: Client) -> None:
    """SIGTERM: the job in hand is answered by the worker that had it, then another takes its place."""
    slow = SlowSample()
    worker = worker_of(endpoint)
    with slow.served() as url:
        job = client.run(prompt="finished first", audio_url=url)
        assert slow.begun.wait(60)
        by = client.status(job)["workerId"]
        worker.terminate()
        time.sleep(0.5)
        slow.release.set()
        ended = client.ended(job)
    assert (ended["status"], ended["workerId"]) == ("COMPLETED", by)
    assert "retries" not in ended
    later = client.run(prompt="for the next one")  # may reach the leaver's last poll, and is then given on
    assert client.ended(later)["status"] == "COMPLETED"
    wait_until(lambda: gone([worker]))


def test_a_keeper_ends_what_a_killed_worker_had_started() -> None:
    """The SDK's ping process outlives its killed loop; under a keeper nothing does."""
    orphaning = (
        "import os, subprocess, sys, psutil;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
        "print(child.pid, flush=True); psutil.Process().kill()"
    )
    keeper = subprocess.Popen(
        [sys.executable, "-m", "infra.local_runpod.supervisor", "1", sys.executable, "-c", orphaning],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
    )
    assert keeper.stdout is not None
    with keeper:
        orphan = int(keeper.stdout.readline())
        keeper.wait(60)
        wait_until(lambda: not psutil.pid_exists(orphan) or gone([psutil.Process(orphan)]))


def test_stopping_leaves_nothing_behind() -> None:
    """`stop` returns when every process is gone, and may be called again."""
    running = start_local_runpod(workers=2)
    everyone = family(psutil.Process(running.pid))
    assert len(everyone) >= 5  # itself, and two keepers with a worker each
    running.stop()
    assert gone(everyone)
    assert running.log().count("ended with status 0") == 2  # told to stop, and free to: no poll held them
    running.stop()


@pytest.mark.parametrize("victim", ["parent", "endpoint"])
def test_a_killed_parent_or_endpoint_takes_everything_along(victim: str) -> None:
    """SIGKILL of whoever started it, or of the endpoint itself, orphans no process."""
    code = (
        "import time; from infra.local_runpod.launch import start_local_runpod;"
        "print(start_local_runpod().pid, flush=True); time.sleep(300)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        running = psutil.Process(int(parent.stdout.readline()))
        everyone = family(running)
        (parent if victim == "parent" else running).kill()
        wait_until(lambda: gone(everyone))
        parent.kill()


def test_a_worker_that_cannot_start_is_an_error_that_says_why() -> None:
    """No endless restarts at the start: the reason is in the message, before patience ends."""
    started = time.monotonic()
    with pytest.raises(EndpointUnavailable, match=r"ended while starting(.|\n)*no such folder"):
        start_local_runpod(engine="higgs", env={"WORKER_MODEL": "no such folder"}, timeout_seconds=120)
    assert time.monotonic() - started < 110


def test_an_endpoint_that_falls_silent_before_it_ends_has_ended() -> None:
    """A process closes its output a moment before it is gone: that is no endpoint late to come up."""
    dying = "import os, sys, time; print('why', file=sys.stderr, flush=True); os.close(1); time.sleep(1)"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", dying], stdin=pipe, stdout=pipe, stderr=pipe)
    with pytest.raises(EndpointUnavailable, match=r"ended while starting(.|\n)*why"):
        RunningEndpoint(process, "key").wait_until_ready(60)
    assert process.returncode is not None


def test_the_command_prints_one_line_and_takes_its_key_from_the_environment() -> None:
    """Ready means ready: the line comes when workers are up, alone on standard output."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local_runpod", "--endpoint-id", "mine", "--stop-with-parent"],
        env={**os.environ, "LOCAL_RUNPOD_API_KEY": "given-key"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        ready = json.loads(process.stdout.readline())
        assert set(ready) == {"base_url", "endpoint_id", "pid"}
        assert ready["endpoint_id"] == "mine"
        health = httpx.get(f"{ready['base_url']}/mine/health", headers={"Authorization": "Bearer given-key"})
        assert health.json()["workers"]["ready"] == 1
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")
def test_the_command_makes_a_key_where_none_is_given_and_stops_when_told() -> None:
    """The only time a key is printed; SIGTERM ends it with status 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local_runpod"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdout is not None
    with process:
        ready = json.loads(process.stdout.readline())
        headers = {"Authorization": f"Bearer {ready['api_key']}"}
        assert httpx.get(f"{ready['base_url']}/local/health", headers=headers).status_code == 200
        everyone = family(psutil.Process(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert gone(everyone)


class Refusals:
    """Middleware that answers results with the codes in store before it lets them through."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.given: list[int] = []

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if "/job-done/" in scope["path"] and self.codes:
                self.given.append(self.codes.pop(0))
                await PlainTextResponse("no", status_code=self.given[-1])(scope, receive, send)
            else:
                await app(scope, receive, send)

        return answer


async def test_results_that_are_refused_are_posted_again_or_made_again() -> None:
    """The SDK posts again after 500 and drops after 400; the queue notices the silence about the job."""
    refusals = Refusals()
    now, ahead = time.monotonic, 0.0
    plan = LocalEndpointOptions(api_key="key", environment={"WORKER_ENGINE": "draft"})
    key = {"Authorization": "Bearer key"}
    async with (
        serve_endpoint(plan, wrap=refusals, clock=lambda: now() + ahead) as endpoint,
        httpx.AsyncClient(base_url=endpoint.base_url, headers=key, verify=False) as client,
    ):

        async def status(job: str, *wanted: str) -> dict[str, Any]:
            async with asyncio.timeout(120):
                while True:
                    found: dict[str, Any] = (await client.get(f"/local/status/{job}")).json()
                    if found["status"] in wanted:
                        return found
                    await asyncio.sleep(0.05)

        async def run(prompt: str) -> str:
            answer = await client.post("/local/run", json={"input": {"prompt": prompt}})
            return str(answer.json()["id"])

        refusals.codes = [500, 502]
        late = await status(await run("answered late"), "COMPLETED", "FAILED")
        assert (late["status"], refusals.given) == ("COMPLETED", [500, 502])
        assert "retries" not in late

        refusals.codes = [400]
        job = await run("answered in vain")
        async with asyncio.timeout(120):
            while refusals.codes:  # noqa: ASYNC110  # another process's doing
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # time for a second post, which must not come
        assert refusals.given == [500, 502, 400]
        assert await status(job, "IN_PROGRESS")
        ahead = 31
        again = await status(job, "COMPLETED", "FAILED")
        assert (again["status"], again["retries"]) == ("COMPLETED", 1)
