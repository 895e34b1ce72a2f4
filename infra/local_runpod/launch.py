"""Starting the local endpoint as a child process of the pipeline; needs the standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from infra.local_runpod.environment import API_KEY_VARIABLE, NEW_GROUP, python, worker_environment
from narration.errors import EndpointUnavailable

STOP_SECONDS = 10.0
LOG_LINES = 200  # the last ones, kept to explain a failure


class RunningEndpoint:
    """A local endpoint in a process of its own, which ends by itself when this process ends.

    `base_url` ends in /v2; jobs are submitted to `endpoint_id` with `api_key`.
    """

    def __init__(self, process: subprocess.Popen[bytes], api_key: str) -> None:
        self._process = process
        self.pid = process.pid
        self.api_key = api_key
        self.base_url = ""
        self.endpoint_id = ""
        self._log_lines: deque[str] = deque(maxlen=LOG_LINES)
        # Not every system can read a pipe with a time limit, so threads read the pipes.
        self._log_reader = threading.Thread(target=self._keep_log, daemon=True)
        self._log_reader.start()

    def wait_until_ready(self, seconds: float) -> None:
        """Return when the workers take jobs; else raises `EndpointUnavailable` with the log's end."""
        lines: list[bytes] = []
        output = _pipe(self._process.stdout)
        reader = threading.Thread(target=lambda: lines.append(output.readline()), daemon=True)
        reader.start()
        reader.join(seconds)
        if not lines or not lines[0].endswith(b"\n"):
            # An empty line means that the output has ended, which it can before the process has.
            failure = "ended while starting" if lines else f"was not ready within {seconds:g} s"
            self.stop()
            log_end = " / ".join(self.log().splitlines())[-2_000:]
            raise EndpointUnavailable(f"the local endpoint {failure}; its log ends: {log_end}")
        ready = json.loads(lines[0])
        self.base_url, self.endpoint_id = ready["base_url"], ready["endpoint_id"]

    def log(self) -> str:
        """The last lines that the endpoint and its workers wrote."""
        return "".join(self._log_lines)

    def stop(self) -> None:
        """Stop the endpoint and its workers, and return when they have ended. A second call does nothing."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # each worker's supervisor then finds its standard input at its end
            self._process.wait()
        _pipe(self._process.stdout).close()
        # Every worker writes to the log's pipe, so the pipe ends when no worker is left.
        self._log_reader.join(STOP_SECONDS)

    def _keep_log(self) -> None:
        with _pipe(self._process.stderr) as lines:
            for line in lines:
                self._log_lines.append(line.decode(errors="replace"))


def start_local_runpod(
    *,
    engine: str = "draft",
    workers: int = 1,
    slots: int | None = None,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float = 60,
) -> RunningEndpoint:
    """Start a local endpoint and wait until its workers take jobs.

    `env` adds to this process's environment; of both, workers get the variables that
    `worker_environment` allows, and no keys. Raises `EndpointUnavailable` if they do not start in time.
    """
    key = secrets.token_urlsafe(24)
    arguments = ["--stop-with-parent", "--engine", engine, "--workers", str(workers)]
    if slots is not None:
        arguments += ["--slots", str(slots)]
    process = subprocess.Popen(  # noqa: S603 -- this project's own module
        python("-m", "infra.local_runpod", *arguments),
        env=worker_environment({**os.environ, **(env or {})}) | {API_KEY_VARIABLE: key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        creationflags=NEW_GROUP,
    )
    endpoint = RunningEndpoint(process, key)
    try:
        endpoint.wait_until_ready(timeout_seconds)
    except BaseException:
        endpoint.stop()
        raise
    return endpoint


@contextmanager
def local_runpod(**options: Any) -> Iterator[RunningEndpoint]:
    """A local endpoint while a `with` block runs; options are those of `start_local_runpod`."""
    endpoint = start_local_runpod(**options)
    try:
        yield endpoint
    finally:
        endpoint.stop()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # every stream was opened as a pipe
    return stream
