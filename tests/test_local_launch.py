"""Starting the local endpoint: from the pipeline as a child process, and as a command of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from support.local_processes import ROOT, have_ended, process_tree

from infra.local_runpod.launch import RunningEndpoint, start_local_runpod
from narration.errors import EndpointUnavailable


def test_a_worker_that_cannot_start_is_an_error_that_gives_the_reason() -> None:
    """It is not restarted for ever: the error comes before the time for starting is over."""
    started = time.monotonic()
    with pytest.raises(EndpointUnavailable, match=r"ended while starting(.|\n)*no such folder"):
        start_local_runpod(engine="higgs", env={"WORKER_MODEL": "no such folder"}, timeout_seconds=120)
    assert time.monotonic() - started < 110


def test_an_endpoint_that_closes_its_output_before_it_ends_has_ended() -> None:
    """A process closes its output a moment before it ends; that is not an endpoint slow to start."""
    dying = "import os, sys, time; print('why', file=sys.stderr, flush=True); os.close(1); time.sleep(1)"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", dying], stdin=pipe, stdout=pipe, stderr=pipe)
    with pytest.raises(EndpointUnavailable, match=r"ended while starting(.|\n)*why"):
        RunningEndpoint(process, "key").wait_until_ready(60)
    assert process.returncode is not None


def test_the_command_prints_one_line_and_takes_its_key_from_the_environment() -> None:
    """The line is all of standard output, and is printed when the workers take jobs."""
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_the_command_prints_a_random_key_if_none_is_set_and_stops_on_sigterm() -> None:
    """A key is printed in this case only; after SIGTERM the exit status is 0 and no process is left."""
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
        processes = process_tree(psutil.Process(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert have_ended(processes)
