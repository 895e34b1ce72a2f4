"""What a download accepts: how many bytes, in how much time, and which answers are a file."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from support.downloads import HELLO, Handler, fetch_local, serving

from narration.fetch import FetchRefused, FetchTooLarge, FetchUnreachable


def test_a_file_is_fetched_whole() -> None:
    """The server's bytes are returned, and the request names the path, the query and the host."""
    with serving(HELLO) as (port, requests):
        assert fetch_local(f"http://127.0.0.1:{port}/a.wav?token=1") == b"hello"
    assert requests[0].startswith(b"GET /a.wav?token=1 HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in requests[0]


def test_messages_leave_out_the_query() -> None:
    """A presigned URL's signature is a secret, so the message names scheme, host and path."""
    with (
        serving(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as (port, _),
        pytest.raises(FetchRefused) as refusal,
    ):
        fetch_local(f"http://127.0.0.1:{port}/voice%0Aforged.wav?X-Amz-Signature=s3cret#f")
    assert str(refusal.value) == f"http://127.0.0.1:{port}/voice%0Aforged.wav: the server answered 403"


def test_a_content_length_over_the_limit_is_refused_at_once() -> None:
    """An announced length over the limit is refused before any byte of the file is read."""
    with (
        serving(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n") as (port, _),
        pytest.raises(FetchTooLarge),
    ):
        fetch_local(f"http://127.0.0.1:{port}/")


def test_an_endless_stream_is_cut_at_the_limit() -> None:
    """Without a Content-Length, bytes are counted as they arrive."""
    sent = 0

    def endless(connection: socket.socket, _: bytes) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 500_000_000:
            sent += connection.send(b"x" * 10_000)

    with serving(endless) as (port, _), pytest.raises(FetchTooLarge):
        fetch_local(f"http://127.0.0.1:{port}/")
    assert sent < 50_000_000


def test_nothing_is_decompressed() -> None:
    """A compressed answer, which could expand to any size, is refused unread."""
    compressed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    with serving(compressed) as (port, requests), pytest.raises(FetchRefused, match="compresses"):
        fetch_local(f"http://127.0.0.1:{port}/")
    assert b"Accept-Encoding: identity" in requests[0]


def test_a_web_page_is_not_a_file() -> None:
    """A sign-in page that is answered with 200 is refused."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"
    with serving(page) as (port, _), pytest.raises(FetchRefused, match="web page"):
        fetch_local(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, FetchRefused),
        (206, FetchRefused),
        (304, FetchRefused),
        (401, FetchRefused),
        (404, FetchRefused),
        (410, FetchRefused),
        (408, FetchUnreachable),
        (429, FetchUnreachable),
        (500, FetchUnreachable),
        (503, FetchUnreachable),
    ],
)
def test_a_status_says_whether_trying_again_helps(status: int, kind: type[Exception]) -> None:
    """408, 425, 429 and 5xx are unreachable, any other status but 200 is a refusal."""
    with (
        serving(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()) as (port, _),
        pytest.raises(kind, match=f"answered {status}"),
    ):
        fetch_local(f"http://127.0.0.1:{port}/")


def _hang(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)


def _drip_header(connection: socket.socket, _: bytes) -> None:
    _drip(connection, b"HTTP/1.1 200 OK\r\nX-Slow: ")


def _drip_body(connection: socket.socket, _: bytes) -> None:
    _drip(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")


def _drip_chunk_size(connection: socket.socket, _: bytes) -> None:
    _drip(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")


def _drip_without_length(connection: socket.socket, _: bytes) -> None:
    _drip(connection, b"HTTP/1.1 200 OK\r\n\r\n")


def _drip(connection: socket.socket, start: bytes) -> None:
    """Send `start`, then a byte now and then until the client hangs up."""
    connection.sendall(start)
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "slow",
    [_hang, _drip_header, _drip_body, _drip_chunk_size, _drip_without_length],
    ids=lambda f: f.__name__,
)
def test_the_time_limit_holds_for_every_slow_server(slow: Handler) -> None:
    """A server that sends nothing, or a byte now and then, is left when the time is up."""
    with serving(slow) as (port, _):
        began = time.monotonic()
        with pytest.raises(FetchUnreachable, match="took too long"):
            fetch_local(f"http://127.0.0.1:{port}/", timeout_seconds=0.5)
        assert time.monotonic() - began < 2


def test_the_time_limit_includes_resolving_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs is left when the time is up."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(5) and [])
    began = time.monotonic()
    with pytest.raises(FetchUnreachable, match="resolve"):
        fetch_local("http://slow.example/", timeout_seconds=0.3)
    release.set()
    assert time.monotonic() - began < 2


def test_a_connection_cut_short_is_unreachable() -> None:
    """Fewer bytes than announced are an error, not a shorter file."""
    with (
        serving(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello") as (port, _),
        pytest.raises(FetchUnreachable),
    ):
        fetch_local(f"http://127.0.0.1:{port}/")


def test_no_server_is_unreachable() -> None:
    """A refused connection and a name that does not exist raise no error of httpx."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchUnreachable, match="no answer"):
        fetch_local(f"http://127.0.0.1:{port}/")
    with pytest.raises(FetchUnreachable, match="does not resolve"):
        fetch_local("http://nowhere.invalid/")


@pytest.mark.parametrize(
    "nonsense", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"\x00" * 200]
)
def test_an_answer_that_is_not_http_is_unreachable(nonsense: bytes) -> None:
    """A server of another protocol raises no error of httpx."""
    with serving(nonsense) as (port, _), pytest.raises(FetchUnreachable):
        fetch_local(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("length", ["9" * 30, "9" * 5_000])
def test_an_absurd_content_length_raises_an_error_of_fetch(length: str) -> None:
    """A length with too many digits is too large, or not HTTP, and no error of `int`."""
    with (
        serving(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()) as (port, _),
        pytest.raises((FetchTooLarge, FetchUnreachable)),
    ):
        fetch_local(f"http://127.0.0.1:{port}/")


def test_fetch_imports_nothing_else_of_the_pipeline() -> None:
    """The worker's image contains this package, and of the rest of the pipeline only the contract."""
    code = (
        "import sys, narration.fetch;"
        "print([m for m in sys.modules if m.startswith('narration.') and m != 'narration.contract'"
        " and not f'{m}.'.startswith('narration.fetch.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
