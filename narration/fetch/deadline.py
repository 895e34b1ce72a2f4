"""The time limit of a whole download."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Self


class Deadline:
    """Ends a download when its time is up, by shutting down the connection in use from a timer.

    httpx's timeouts cannot: they limit single reads, and a server that sends a byte now and then
    restarts them.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._shut_down)
        self._timer.daemon = True
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def left(self) -> float:
        """Seconds left; never below 0.001, since httpx takes a timeout of 0 for none."""
        return max(0.001, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note the connection's socket from httpx's trace events."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._connection = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the connection closed in the same moment
