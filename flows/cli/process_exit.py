"""How the process `narrate` ends: its exit statuses, and no waiting for a Prefect server that is gone."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from typing import NoReturn
from urllib.parse import urlsplit

DONE = 0
FAILED = 1  # some chunk failed; the others are stored
BAD_INPUT = 2  # nothing was started
STOPPED = 130  # by Ctrl-C, as shells have it
PIPE_CLOSED = 141  # the reader of stdout has ended, as shells have it

UNANSWERED_CHECKS = 3  # in a row, before a Prefect server is given up
SECONDS_BETWEEN_CHECKS = 2.0
CONNECT_SECONDS = 10.0  # a busy server may take its time to accept a connection


def exit_process(status: int) -> NoReturn:
    """End this process with `status` once Prefect's client has sent its last events to the server.

    The client sends them one after the other and tries each for minutes. Where the server is
    gone, this process ends without them. Nothing is logged from now on: how many events remain, above
    all, is nothing that the person can act on.
    """
    logging.disable(logging.CRITICAL)
    address = os.environ.get("PREFECT_API_URL")
    if "prefect" in sys.modules and address:
        threading.Thread(target=_exit_without_server, args=(status, address), daemon=True).start()
    sys.exit(status)


def _exit_without_server(status: int, address: str) -> None:
    """End the process at once when no server has listened at `address` for some checks in a row."""
    unanswered = 0
    while unanswered < UNANSWERED_CHECKS:
        time.sleep(SECONDS_BETWEEN_CHECKS)
        unanswered = 0 if _is_listening(address) else unanswered + 1
    os._exit(status)


def _is_listening(address: str) -> bool:
    """Whether the port accepts connections; an HTTP answer would depend on keys and certificates."""
    url = urlsplit(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
