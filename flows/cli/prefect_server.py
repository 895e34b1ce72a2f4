"""The Prefect server of a run: the configured one, or a child process that ends with this process.

Prefect would start a server by itself, in our process group: Ctrl-C would end the server before the run
has reported its end, for which the run then waits minutes, and a killed run would leave the server behind.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import threading
from typing import Literal, cast

from narration.errors import SettingsError

Origin = Literal["environment", "profile", "own"]
"""Where the address comes from: `PREFECT_API_URL`, the active Prefect profile, or a server of our own."""

START_SECONDS = 120.0  # a fresh database on a busy machine
STOP_SECONDS = 5.0

_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows; elsewhere a new session does it
_provided: dict[str, Origin] = {}  # address -> origin, of what this process put into its environment


def provide_server() -> Origin:
    """Set `PREFECT_API_URL` to a server that answers, where it is not set; call before Prefect is imported.

    A server of our own lives until this process ends. Raises `SettingsError` when it does not start.
    """
    address = os.environ.get("PREFECT_API_URL")
    if address:
        return _provided.get(address, "environment")
    origin, address = _start()
    os.environ["PREFECT_API_URL"] = address
    _provided[address] = origin
    return origin


def _start() -> tuple[Origin, str]:
    """Start the child; returns the origin and the address that it prints."""
    log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli.prefect_server_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,  # a server that is stopped at work logs errors that mean nothing to the person
        start_new_session=True,
        creationflags=_NEW_GROUP,
    )
    # Prefect sends its last events when threads are joined, which comes before these calls.
    atexit.register(_stop, server)
    assert server.stdout is not None
    overdue = threading.Timer(START_SECONDS, server.kill)
    overdue.start()
    try:
        origin, _, address = server.stdout.readline().decode().strip().partition(" ")
    finally:
        overdue.cancel()
    if not address:
        log.seek(0)
        words = " ".join(log.read().decode(errors="replace").split())
        raise SettingsError(
            f"Prefect's server did not start on this machine: {words[-300:] or 'it logged nothing'}",
            remedy="`prefect server start` shows why; or set PREFECT_API_URL to a server that runs",
        )
    return cast("Origin", origin), address


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    try:
        server.wait(STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C does not wait
        server.kill()
        server.wait()
    server.stdout.close()
