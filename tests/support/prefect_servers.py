"""Starts Prefect servers and workers as processes on loopback, for every test that runs flows."""

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
import psutil  # type: ignore[import-untyped]  # ships no types

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
    """Run `command` in a session of its own, its output in `log`; stop it with all its children."""
    process = _start(command, env, log)
    try:
        yield process
    finally:
        _signal_all(process, kill=False)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what does not stop in time is killed below
            process.wait(timeout=STOP_SECONDS)
        _signal_all(process, kill=True)
        process.wait()


@contextlib.contextmanager
def running_server(home: Path, database_url: str | None = None, **settings: str) -> Iterator[str]:
    """Start a Prefect server; yield its API URL once it answers.

    `database_url`: PostgreSQL; without it SQLite under `home`. `settings`: environment variables
    on top, such as `PREFECT_SERVER_UI_ENABLED="true"` (off by default: the UI is copied at start).
    """
    home.mkdir(parents=True, exist_ok=True)
    database = {} if database_url is None else {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database_url}
    port, log = free_port(), home / "server.log"
    with running(_server_command(port), _server_env(home, **database, **settings), log) as process:
        _wait_until_healthy(port, process, log)
        yield _api_url(port)


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


class RestartableServer:
    """A Prefect server that can be killed and started again, with the same port and database in `home`."""

    def __init__(self, home: Path, restart_seconds: float = 1.0) -> None:
        self._home = home
        self._log = home / "server.log"
        self._port = free_port()
        self._restart_seconds = restart_seconds
        self._process: subprocess.Popen[bytes]
        self._restarting: threading.Thread | None = None
        self.url = _api_url(self._port)

    def __enter__(self) -> Self:
        self._start()
        _wait_until_healthy(self._port, self._process, self._log)
        return self

    def __exit__(self, *_: object) -> None:
        if self._restarting is not None:
            self._restarting.join()
        self.end()

    def restart_soon(self) -> None:
        """Kill the server now, and start it again after `restart_seconds` in a thread."""
        self.end()

        def restart() -> None:
            time.sleep(self._restart_seconds)
            self._start()

        self._restarting = threading.Thread(target=restart)
        self._restarting.start()

    def end(self) -> None:
        """Kill the server, if it runs."""
        if self._process.poll() is None:
            _signal_all(self._process, kill=True)
            self._process.wait()

    def _start(self) -> None:
        self._process = _start(_server_command(self._port), _server_env(self._home), self._log)


def _server_command(port: int) -> list[str]:
    return [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]


def _server_env(home: Path, **settings: str) -> dict[str, str]:
    return prefect_env(home, **{"PREFECT_SERVER_UI_ENABLED": "false"} | settings)


def _api_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _start(command: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=dict(env), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _signal_all(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    """Stop, or kill, a process that leads a session, and its children."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    url, deadline = f"{_api_url(port)}/health", time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not answer:\n{log.read_text(errors='replace')[-5_000:]}")
        time.sleep(0.2)
