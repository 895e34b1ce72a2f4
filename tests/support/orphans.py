"""Kills every process that a test process started and left running, once that test process is gone.

`tests/conftest.py` and `benchmarks/chaos.py` call `kill_orphans_at_exit` first of all. It starts this file
as a program, which waits for its standard input to end, as it does when the test process exits, crashes
or is killed. Children are recognized by a variable that they inherit, so that no kit has to name its own.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
import uuid

import psutil  # type: ignore[import-untyped]  # ships no types

MARK = "TESTS_PROCESS_MARK"  # a variable's name; its value is the test process's own
SECONDS = 10.0  # for killed processes to disappear


def kill_orphans_at_exit() -> None:
    """From now on every child of this process, and every child of those, ends with this process.

    Workers of `infra.local_runpod` do not inherit the variable; they end by their own supervisor.
    """
    mark = uuid.uuid4().hex
    env = {name: value for name, value in os.environ.items() if name != MARK}
    guard = subprocess.Popen(
        [sys.executable, __file__, mark],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # with the flag below: Ctrl-C in the terminal must not end it
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    atexit.register(_release, guard)
    os.environ[MARK] = mark


def _release(guard: subprocess.Popen[bytes]) -> None:
    """At this process's orderly end: let the guard kill what is left, and wait for it."""
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait()


def marked(mark: str) -> list[psutil.Process]:
    """The processes that inherited `mark` and still run."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.Error, OSError):  # ended meanwhile, or another user's
            continue
    return processes


def _guard(mark: str) -> None:
    sys.stdin.buffer.read()
    give_up = time.monotonic() + SECONDS
    while (processes := marked(mark)) and time.monotonic() < give_up:
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        time.sleep(0.1)  # a process may have started another in the meantime: look again


if __name__ == "__main__":
    _guard(sys.argv[1])
