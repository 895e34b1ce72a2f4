"""`python -m flows.cli.prefect_server_process`: a Prefect server that stops when its standard input ends.

Prints one line: `own` and the address of the API it serves, or `profile` and the address that the
active Prefect profile names, in which case it serves nothing. Standard input ends when the parent
closes it or dies.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import uvicorn

from flows.cli.prefect_server import STOP_SECONDS, Origin


def main() -> None:
    """Serve until standard input ends."""
    from prefect.settings import get_current_settings  # noqa: PLC0415  # imported only to serve

    configured = get_current_settings().api.url
    if configured:
        _print_address("profile", configured)
        return
    from prefect.server.api.server import create_app  # noqa: PLC0415  # not where a profile names a server

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
    port = listener.getsockname()[1]
    threading.Thread(target=_print_when_started, args=(server, port), daemon=True).start()
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


def _print_when_started(server: uvicorn.Server, port: int) -> None:
    while not server.started:
        time.sleep(0.05)
    _print_address("own", f"http://127.0.0.1:{port}/api")


def _print_address(origin: Origin, address: str) -> None:
    sys.stdout.write(f"{origin} {address}\n")
    sys.stdout.flush()


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    while os.read(0, 4096):
        pass
    server.should_exit = True
    time.sleep(STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
