"""A test process that is killed leaves no process: no server, no worker, nothing that these started."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

TESTS = Path(__file__).parent
START_SECONDS = 240.0  # for all servers, on a machine that is busy with much else
END_SECONDS = 20.0  # a worker has five to stop by itself

SLEEP = "import time; time.sleep(600)"
CHILD = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
{SLEEP}
"""
PARENT = f"""
import subprocess, sys
from support.orphans import kill_orphans_at_exit

kill_orphans_at_exit()
subprocess.Popen([sys.executable, "-c", {CHILD!r}])
sys.stdin.read()
"""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments, its descendants killed in the end even if the test fails."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill([*descendants(process), psutil.Process(process.pid)])


def kill(processes: list[psutil.Process]) -> None:
    """Kill those that still run."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Every process that `process` started, directly or not."""
    children: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return children


def commands(processes: list[psutil.Process]) -> list[str]:
    """The commands of those processes that still run."""
    lines = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                lines.append(" ".join(process.cmdline()))
    return lines


def wait_for(reached: Callable[[], object], seconds: float) -> None:
    """Return once `reached` is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def assert_all_end(processes: list[psutil.Process]) -> None:
    """They end by themselves in time; those that do not are killed here."""
    try:
        wait_for(lambda: not commands(processes), END_SECONDS)
    finally:
        kill(processes)


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_children_end_with_the_process_that_started_them(end: str) -> None:
    """A child, and its own child in another session, end whether that process is killed or just ends."""
    with started("-c", PARENT) as parent:
        wait_for(lambda: len(descendants(parent)) == 3, START_SECONDS)  # with the guard
        family = descendants(parent)
        if end == "killed":
            parent.kill()
        else:
            assert parent.stdin is not None
            parent.stdin.close()
        parent.wait()
        assert_all_end(family)


@pytest.mark.timeout(600)
def test_a_killed_test_run_leaves_no_server_and_no_worker(tmp_path: Path) -> None:
    """Prefect's server, S3 server and worker, started in a process of pytest-xdist, end soon after pytest."""
    options = ["-q", "-n1", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'run'}"]
    with started("-m", "pytest", *options, "faults/test_fault_matrix.py", "-k", "store and slow") as run:

        def all_started() -> bool:
            assert run.poll() is None, "the run ended before its servers were seen"
            lines = commands(descendants(run))
            programs = ("prefect server start", "weed mini", "-m gpu_worker")
            return all(any(program in line for line in lines) for program in programs)

        wait_for(all_started, START_SECONDS)
        family = descendants(run)
        run.kill()
        run.wait()
        assert_all_end(family)
