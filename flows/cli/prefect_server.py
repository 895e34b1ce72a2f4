"""A Prefect server for a run that has none: a process of its own, gone when ours is.

Prefect would start one by itself, in our process group: Ctrl-C would end it before the run has told
it how it ended, for which the run then waits minutes, and a killed run would leave it there for ever.

`python -m flows.cli.prefect_server` prints the API's address in one line, the one that a Prefect profile
names if any does, and stops when its standard input ends, as it does when the parent stops or dies.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import uvicorn

from narration.errors import SettingsError

START_SECONDS = 120.0  # a fresh database on a busy machine
STOP_SECONDS = 5.0

_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # what Windows has for a session of its own


def provide_server() -> None:
    """Set `PREFECT_API_URL` to a server that answers, where it is not set; call before Prefect is imported.

    The server lives until this process ends. Raises `SettingsError` when it does not start.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    said = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli.prefect_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,  # a server that is stopped in mid-work has much to say, and none of it to the person
        start_new_session=True,
        creationflags=_NEW_GROUP,
    )
    # Prefect sends its last events when threads are joined, which comes before these calls.
    atexit.register(_stop, server)
    assert server.stdout is not None
    overdue = threading.Timer(START_SECONDS, server.kill)
    overdue.start()
    try:
        address = server.stdout.readline().decode().strip()
    finally:
        overdue.cancel()
    if not address:
        said.seek(0)
        words = " ".join(said.read().decode(errors="replace").split())
        raise SettingsError(
            f"Prefect's server did not start on this machine: {words[-300:] or 'it said nothing'}",
            remedy="`prefect server start` shows why; or set PREFECT_API_URL to a server that runs",
        )
    os.environ["PREFECT_API_URL"] = address


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    try:
        server.wait(STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # whoever presses Ctrl-C once more is in a hurry
        server.kill()
        server.wait()
    server.stdout.close()


def main() -> None:
    """Serve until standard input ends."""
    from prefect.settings import get_current_settings  # noqa: PLC0415  # the parent does without all this

    address = get_current_settings().api.url
    if address:
        _tell(address)
        return
    from prefect.server.api.server import create_app  # noqa: PLC0415  # as above

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            lambda: create_app(ephemeral=True, final=True),
            factory=True,
            log_level="error",
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
    )
    threading.Thread(target=_tell_when_up, args=(server, listener.getsockname()[1]), daemon=True).start()
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


def _tell_when_up(server: uvicorn.Server, port: int) -> None:
    while not server.started:
        time.sleep(0.05)
    _tell(f"http://127.0.0.1:{port}/api")


def _tell(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True
    time.sleep(STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
