"""A real Prefect server, and workers for it, as processes on loopback for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from support.postgres import free_port

START_SECONDS = 240  # a fresh database on a machine that is busy with much else
STOP_SECONDS = 20


def prefect_env(home: Path, api_url: str | None = None, **more: str) -> dict[str, str]:
    """Environment of a Prefect process: this one, less its Prefect settings, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    # Without a terminal's width, tables and paths in the output are cut to 80 columns.
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "COLUMNS": "200"}
    address = {"PREFECT_API_URL": api_url} if api_url else {}
    return kept | quiet | {"PREFECT_HOME": str(home)} | address | more


@contextlib.contextmanager
def running(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in a session of its own, its output in `log`; end it with all its children."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=dict(env), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what does not stop when asked is killed below
            process.wait(timeout=STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def running_server(home: Path, database_url: str | None = None, **settings: str) -> Iterator[str]:
    """Start a Prefect server; yield its API URL once it answers.

    `database_url`: PostgreSQL; without it SQLite under `home`. `settings`: environment variables
    on top, such as `PREFECT_SERVER_UI_ENABLED="true"` (off by default: the UI is copied at start).
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    chosen = {"PREFECT_SERVER_UI_ENABLED": "false"} | settings
    if database_url is not None:
        chosen["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database_url
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    api_url = f"http://127.0.0.1:{port}/api"
    log = home / "server.log"
    with running(command, prefect_env(home, **chosen), log) as process:
        _wait_until_healthy(f"{api_url}/health", process, log)
        yield api_url


@contextlib.contextmanager
def running_worker(
    home: Path, api_url: str, pool: str, *options: str, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process worker of `pool`; its log is `worker.log` under `home`."""
    home.mkdir(parents=True, exist_ok=True)
    start = [sys.executable, "-m", "prefect", "worker", "start"]
    command = [*start, "--pool", pool, "--type", "process", *options]
    with running(command, prefect_env(home, api_url, **settings), home / "worker.log") as process:
        yield process


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not answer:\n{log.read_text(errors='replace')[-5_000:]}")
        time.sleep(0.2)


class RestartableServer:
    """A Prefect server that can be killed and started again where it was, with the same database."""

    def __init__(self, home: Path, seconds_gone: float = 1.0) -> None:
        self._home = home
        self._port = free_port()
        self._gone = seconds_gone
        self._process: subprocess.Popen[bytes]
        self._restarting: threading.Thread | None = None
        self.url = f"http://127.0.0.1:{self._port}/api"

    def __enter__(self) -> Self:
        self._start()
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._restarting is not None:
            self._restarting.join()
        self.end()

    def restart_soon(self) -> None:
        """Kill it now; it is back after a while."""
        self.end()

        def come_back() -> None:
            time.sleep(self._gone)
            self._start()

        self._restarting = threading.Thread(target=come_back)
        self._restarting.start()

    def _start(self) -> None:
        serve = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        env = prefect_env(self._home, PREFECT_SERVER_UI_ENABLED="false")
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *serve], env=env, stdout=log, stderr=log, start_new_session=True
            )

    def end(self) -> None:
        """Kill it, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _wait(self) -> None:
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == httpx.codes.OK:
                    return
            time.sleep(0.2)
        raise RuntimeError((self._home / "server.log").read_text()[-3_000:])
