"""The local endpoint's processes: what happens when one of them is killed, terminated or stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from support.local_processes import (
    ROOT,
    JobClient,
    SlowSample,
    have_ended,
    job_client,
    process_tree,
    wait_until,
    worker_of,
)

from infra.local_runpod.launch import RunningEndpoint, local_runpod, start_local_runpod


@pytest.fixture(scope="module")
def endpoint() -> Iterator[RunningEndpoint]:
    """One endpoint for the tests of a single worker, which it replaces after each."""
    environment = {"WORKER_ALLOW_PRIVATE_URLS": "1", "VOICE_SAMPLE_TRANSCRIPT": "what it says"}
    with local_runpod(slots=8, env=environment) as running:
        yield running


@pytest.fixture
def client(endpoint: RunningEndpoint) -> Iterator[JobClient]:
    """A client of the endpoint."""
    with job_client(endpoint) as opened:
        yield opened


def test_a_killed_workers_job_is_spoken_by_the_next_worker(
    endpoint: RunningEndpoint, client: JobClient
) -> None:
    """After SIGKILL the job is dispatched once more and completes; no process of the dead worker is left."""
    slow = SlowSample()
    dead = process_tree(worker_of(endpoint))
    assert len(dead) > 1  # the loop pings from a child process
    with slow.served() as url:
        job = client.run(prompt="twice begun", audio_url=url)
        assert slow.requested.wait(60)
        first_worker = client.status(job)["workerId"]
        dead[0].kill()
        status = client.wait_for_end(job)
    assert status["status"] == "COMPLETED", status
    assert status["retries"] == 1
    assert status["workerId"] != first_worker
    wait_until(lambda: have_ended(dead))
    assert client.health()["workers"]["idle"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_terminated_worker_finishes_its_job(endpoint: RunningEndpoint, client: JobClient) -> None:
    """After SIGTERM the worker posts the result of the job it has; then another worker replaces it."""
    slow = SlowSample()
    worker = worker_of(endpoint)
    with slow.served() as url:
        job = client.run(prompt="finished first", audio_url=url)
        assert slow.requested.wait(60)
        worker_id = client.status(job)["workerId"]
        worker.terminate()
        time.sleep(0.5)
        slow.release.set()
        status = client.wait_for_end(job)
    assert (status["status"], status["workerId"]) == ("COMPLETED", worker_id)
    assert "retries" not in status
    later = client.run(
        prompt="for the next one"
    )  # the ending worker's last poll may take it and give it back
    assert client.wait_for_end(later)["status"] == "COMPLETED"
    wait_until(lambda: have_ended([worker]))


def test_a_supervisor_ends_what_a_killed_worker_had_started() -> None:
    """The SDK's ping process outlives its killed loop; under a supervisor no process does."""
    orphaning = (
        "import os, subprocess, sys, psutil;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
        "print(child.pid, flush=True); psutil.Process().kill()"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "infra.local_runpod.supervisor", "1", sys.executable, "-c", orphaning],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
    )
    assert supervisor.stdout is not None
    with supervisor:
        orphan = int(supervisor.stdout.readline())
        supervisor.wait(60)
        wait_until(lambda: not psutil.pid_exists(orphan) or have_ended([psutil.Process(orphan)]))


def test_stopping_leaves_no_process_behind() -> None:
    """`stop` returns when every process has ended, and may be called again."""
    running = start_local_runpod(workers=2)
    processes = process_tree(psutil.Process(running.pid))
    assert len(processes) >= 5  # the endpoint, and two supervisors with a worker each
    running.stop()
    assert have_ended(processes)
    assert (
        running.log().count("ended with status 0") == 2
    )  # they were asked to stop, and no poll held them up
    running.stop()


@pytest.mark.parametrize("victim", ["parent", "endpoint"])
def test_a_killed_parent_or_endpoint_leaves_no_process_behind(victim: str) -> None:
    """SIGKILL of the process that started the endpoint, or of the endpoint itself, orphans no process."""
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
        processes = process_tree(running)
        (parent if victim == "parent" else running).kill()
        wait_until(lambda: have_ended(processes))
        parent.kill()
