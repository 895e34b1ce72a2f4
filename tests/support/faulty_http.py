"""An HTTP proxy in front of an S3 server that makes chosen requests fail as networks and servers do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})

SECRET = "what-a-server-should-not-say"

Forward = Callable[[bytes], tuple[int, dict[str, str], bytes]]
"""Sends a body to the server as the request's; returns the answer's status, headers and body."""

Fault = Callable[["Handler", Forward], None]
"""Handles one request in place of the proxy, and may forward it."""


class FaultProxy:
    """Each request is handled by the next of `faults`, then by `default_fault`; None forwards it.

    Every request is delayed by `delay` seconds and forwarded without `dropped_headers`. `requests` are
    the methods and paths so far, `most_at_once` the most that were in flight together.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.delay = 0.0
        self.faults: deque[Fault | None] = deque()
        self.default_fault: Fault | None = None
        self.dropped_headers: tuple[str, ...] = ()
        self.requests: list[tuple[str, str]] = []
        self.most_at_once = 0
        self.connections: list[socket.socket] = []
        self._in_flight = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.proxy = self  # type: ignore[attr-defined]  # read by the handler
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close the connections that are still open."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def request(self, method: str, path: str) -> Iterator[Fault | None]:
        """Count a request while the block runs; the value is the fault that handles it, if any."""
        with self._lock:
            self.requests.append((method, path))
            self._in_flight += 1
            self.most_at_once = max(self.most_at_once, self._in_flight)
            fault = self.faults.popleft() if self.faults else self.default_fault
        try:
            time.sleep(self.delay)
            yield fault
        finally:
            with self._lock:
                self._in_flight -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients that close their connection are expected."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.proxy.connections.append(self.connection)  # type: ignore[attr-defined]  # set by FaultProxy

    def handle_any(self) -> None:
        proxy: FaultProxy = self.server.proxy  # type: ignore[attr-defined]  # set by FaultProxy
        with proxy.request(self.command, self.path) as fault:
            if fault is not None:
                fault(self, self.forward)
            else:
                self.answer(*self.forward(self.body()))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815  names the base class calls

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        proxy: FaultProxy = self.server.proxy  # type: ignore[attr-defined]  # set by FaultProxy
        with closing(http.client.HTTPConnection(proxy.upstream, timeout=30)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection", *proxy.dropped_headers}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(data))
        return response.status, headers, data

    def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def s3_error(code: int, s3_code: str, **headers: str) -> Fault:
    """A fault that answers with an S3 error and forwards nothing."""
    xml = f"<?xml version='1.0'?><Error><Code>{s3_code}</Code><Message>the key is {SECRET}</Message></Error>"

    def fault(handler: Handler, _: Forward) -> None:
        handler.body()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        length = {} if handler.command == "HEAD" else {"Content-Length": str(len(xml))}
        handler.answer(code, {"Content-Type": "application/xml", **length, **named}, xml.encode())

    return fault


def cut_upload(handler: Handler, _: Forward) -> None:
    """Read half of the request's body, then close the connection."""
    handler.rfile.read(int(handler.headers.get("Content-Length", 0)) // 2)
    _close(handler)


def lose_answer(handler: Handler, forward: Forward) -> None:
    """Forward the request, then close the connection without an answer."""
    forward(handler.body())
    _close(handler)


def cut_download(handler: Handler, forward: Forward) -> None:
    """Answer with half of the body, then close the connection."""
    code, headers, data = forward(handler.body())
    handler.answer(code, headers, data[: len(data) // 2])
    handler.wfile.flush()
    _close(handler)


def alter_download(handler: Handler, forward: Forward) -> None:
    """Change the last byte of the answer."""
    code, headers, data = forward(handler.body())
    handler.answer(code, headers, data[:-1] + bytes([data[-1] ^ 1]) if data else data)


def never_answer(handler: Handler, _: Forward) -> None:
    """Read the request, then close the connection after a while without an answer."""
    handler.body()
    time.sleep(1.5)
    _close(handler)


def _close(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
