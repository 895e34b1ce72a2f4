"""A proxy before an S3 server that makes the trouble networks and servers make, one request at a time."""

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

# What a proxy does to one request. Each takes the handler, the request's body and the way to the server.
Forward = Callable[[bytes], tuple[int, dict[str, str], bytes]]
Fault = Callable[["Handler", Forward], None]


class FaultProxy:
    """An HTTP proxy before an S3 server: each request is answered by the next fault, or just forwarded.

    `delay` seconds are added to every request; `seen` are the requests' methods and paths,
    `peak` is the most that were in flight at once.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.delay = 0.0
        self.faults: deque[Fault | None] = deque()
        self.always: Fault | None = None
        self.strip: tuple[str, ...] = ()
        self.seen: list[tuple[str, str]] = []
        self.peak = 0
        self.connections: list[socket.socket] = []
        self._busy = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.proxy = self  # type: ignore[attr-defined]  # the handler's way back
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and hang up on those who are still connected."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def request(self, method: str, path: str) -> Iterator[Fault | None]:
        """Count a request and decide what becomes of it."""
        with self._lock:
            self.seen.append((method, path))
            self._busy += 1
            self.peak = max(self.peak, self._busy)
            fault = self.faults.popleft() if self.faults else self.always
        try:
            time.sleep(self.delay)
            yield fault
        finally:
            with self._lock:
                self._busy -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up, killed ones among them, are what this is for."""


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
                if name.lower() not in {"expect", "connection", *proxy.strip}:
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
        """Say nothing."""


def status(code: int, s3_code: str, **headers: str) -> Fault:
    """Answer with an S3 error, without asking the server."""
    xml = f"<?xml version='1.0'?><Error><Code>{s3_code}</Code><Message>the key is {SECRET}</Message></Error>"

    def fault(handler: Handler, _: Forward) -> None:
        handler.body()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        length = {} if handler.command == "HEAD" else {"Content-Length": str(len(xml))}
        handler.answer(code, {"Content-Type": "application/xml", **length, **named}, xml.encode())

    return fault


def cut_upload(handler: Handler, _: Forward) -> None:
    """Read half of the body, then drop the connection."""
    handler.rfile.read(int(handler.headers.get("Content-Length", 0)) // 2)
    _hang_up(handler)


def lose_answer(handler: Handler, forward: Forward) -> None:
    """Let the server do it, then drop the connection instead of saying so."""
    forward(handler.body())
    _hang_up(handler)


def cut_download(handler: Handler, forward: Forward) -> None:
    """Promise the whole answer and drop the connection after half."""
    code, headers, data = forward(handler.body())
    handler.answer(code, headers, data[: len(data) // 2])
    handler.wfile.flush()
    _hang_up(handler)


def flip(handler: Handler, forward: Forward) -> None:
    """Change one byte of the answer on its way."""
    code, headers, data = forward(handler.body())
    handler.answer(code, headers, data[:-1] + bytes([data[-1] ^ 1]) if data else data)


def stall(handler: Handler, _: Forward) -> None:
    """Take the request and say nothing for a while."""
    handler.body()
    time.sleep(1.5)
    _hang_up(handler)


def _hang_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
