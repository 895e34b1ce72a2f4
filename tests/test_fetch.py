"""The one download: what it refuses to reach, how much it takes, how long it waits."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from narration import fetch as room
from narration.fetch import FetchRefused, FetchTooLarge, FetchUnreachable, fetch

Serve = Callable[[socket.socket, bytes], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@contextmanager
def server(*answers: bytes | Serve, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback that gives each connection the next answer; its port, and the requests it saw."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                    if tls:
                        connection = tls.wrap_socket(connection, server_side=True)
                    with connection:
                        request = b""
                        while b"\r\n\r\n" not in request:
                            request += connection.recv(65_536)
                        requests.append(request)
                        if callable(answer):
                            answer(connection, request)
                        else:
                            connection.sendall(answer)
                except OSError:
                    continue  # the client hung up, as it may

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1], requests


def get(url: str, **options: Any) -> bytes:
    """`fetch` from this machine, within a few seconds."""
    return fetch(url, **{"max_bytes": 1_000, "timeout_seconds": 5.0, "allow_private": True, **options})


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A resolver of names to addresses; each name's list is given out whole."""
    table: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in table:
            return [
                (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
                for ip in table[host]
            ]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


def test_a_file_is_fetched_whole() -> None:
    """What the server sends is what comes back, asked for by the host's own name."""
    with server(OK) as (port, requests):
        assert get(f"http://127.0.0.1:{port}/a.wav?token=1") == b"hello"
    assert requests[0].startswith(b"GET /a.wav?token=1 HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in requests[0]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "4000::1",
    ],
)
def test_no_address_of_a_private_or_special_net_is_fetched(address: str, names: dict[str, list[str]]) -> None:
    """An address that not the whole internet shares is refused, in every disguise."""
    assert not room._is_public(ipaddress.ip_address(address))
    names["inside.example"] = ["8.8.8.8", address]
    with pytest.raises(FetchRefused, match="not at a public address"):
        get("http://inside.example/a.wav", allow_private=False)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_passes(address: str) -> None:
    """What the whole internet shares is fetched."""
    assert room._is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]"]
)
def test_this_machine_is_refused_however_it_is_spelt(host: str) -> None:
    """Numbers that the system's resolver takes for an address are judged as that address."""
    with server(OK) as (port, requests), pytest.raises(FetchRefused):
        get(f"http://{host}:{port}/", allow_private=False)
    assert requests == []


def test_the_connection_goes_to_the_address_that_was_checked(names: dict[str, list[str]]) -> None:
    """A name that resolves otherwise a moment later gains nothing: it is asked once."""
    asked: list[str] = []

    class Rebinding(list[str]):
        def __iter__(self) -> Iterator[str]:
            asked.append("resolved")
            return iter(["127.0.0.1"] if len(asked) == 1 else ["127.0.0.99"])

    names["rebind.example"] = Rebinding()
    with server(OK) as (port, requests):
        assert get(f"http://rebind.example:{port}/") == b"hello"
    assert asked == ["resolved"]
    assert f"Host: rebind.example:{port}\r\n".encode() in requests[0]


def test_the_next_address_is_tried_when_one_does_not_answer(names: dict[str, list[str]]) -> None:
    """A host with one dead address is reached by another."""
    names["two.example"] = ["127.0.0.99", "127.0.0.1"]
    with server(OK) as (port, _):
        assert get(f"http://two.example:{port}/") == b"hello"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gopher://example.com/",
        "//example.com/a",
        "example.com/a",
        "http://",
        "http:///a",
        "",
        "http://exa\nmple.com/",
        "http://[::1/",
        "http://example.com:99999/",
        "http://" + "a" * 5_000,
        "data:audio/wav;base64,AAAA",
        "http://example.com/\ud800",
    ],
)
def test_only_http_urls_are_fetched(url: str) -> None:
    """Anything but http and https is refused without being looked at further."""
    with pytest.raises(FetchRefused):
        get(url)


def test_passwords_in_a_url_are_refused_and_never_repeated() -> None:
    """A URL with a user's name or password is not used, and the message does not hold it."""
    with pytest.raises(FetchRefused) as refusal:
        get("https://user:hunter2@example.com/a?key=hunter3")
    assert "hunter" not in str(refusal.value)


def test_messages_leave_out_the_query() -> None:
    """A presigned URL's signature is a secret; the message names scheme, host and path."""
    with (
        server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as (port, _),
        pytest.raises(FetchRefused) as refusal,
    ):
        get(f"http://127.0.0.1:{port}/voice%0Aforged.wav?X-Amz-Signature=s3cret#f")
    assert str(refusal.value) == f"http://127.0.0.1:{port}/voice%0Aforged.wav: the server answered 403"


def test_each_redirect_is_checked(names: dict[str, list[str]]) -> None:
    """A public host that redirects to a private one gets no further than that."""
    with server(OK) as (inner, seen):
        location = f"Location: http://127.0.0.1:{inner}/\r\n".encode()
        with server(b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n") as (port, requests):
            names["public.example"] = ["127.0.0.1"]
            with pytest.MonkeyPatch.context() as patch:
                checked: list[str] = []

                def first_only(address: object) -> bool:
                    checked.append(str(address))
                    return len(checked) == 1

                patch.setattr(room, "_is_public", first_only)
                with pytest.raises(FetchRefused, match=f"127.0.0.1:{inner}/: is not at a public address"):
                    get(f"http://public.example:{port}/", allow_private=False)
            assert len(requests) == 1
            assert seen == []


@pytest.mark.parametrize("host", ["xn--", "xn--a", "xn--a.example"])
def test_a_name_that_only_looks_encoded_is_asked_for_as_it_stands(
    host: str, names: dict[str, list[str]]
) -> None:
    """What no international name encodes to is a name all the same, and no other error."""
    names[host] = ["127.0.0.1"]
    with server(OK) as (port, requests):
        assert get(f"http://{host}:{port}/") == b"hello"
    assert f"Host: {host}:{port}\r\n".encode() in requests[0]


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://example.com/", "http://u:p@example.com/", "http://xn--a/"],
)
def test_a_redirect_leads_to_http_only(location: str) -> None:
    """A redirect to another scheme, to one with a password, or to no host at all is refused."""
    with (
        server(f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()) as (
            port,
            _,
        ),
        pytest.raises(FetchRefused),
    ):
        get(f"http://127.0.0.1:{port}/")


def test_a_relative_redirect_is_followed() -> None:
    """A redirect within the host leads to the file."""
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /there?x=1\r\nContent-Length: 0\r\n\r\n"
    with server(moved, OK) as (port, requests):
        assert get(f"http://127.0.0.1:{port}/here") == b"hello"
    assert requests[1].startswith(b"GET /there?x=1 ")


def test_redirects_end_after_five() -> None:
    """A loop of redirects is left after the fifth."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\n\r\n"
    with server(*[moved] * 9) as (port, requests), pytest.raises(FetchRefused, match="more than 5 redirects"):
        get(f"http://127.0.0.1:{port}/")
    assert len(requests) == 6
    assert not any(b"Cookie:" in request for request in requests)


def test_an_announced_length_over_the_limit_ends_it_at_once() -> None:
    """Content-Length is believed when it says too much: nothing is read."""
    with (
        server(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n") as (port, _),
        pytest.raises(FetchTooLarge),
    ):
        get(f"http://127.0.0.1:{port}/")


def test_a_stream_without_end_is_cut_at_the_limit() -> None:
    """Without a length, bytes are counted as they come."""
    sent = 0

    def endless(connection: socket.socket, _: bytes) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while sent < 500_000_000:
            sent += connection.send(b"x" * 10_000)

    with server(endless) as (port, _), pytest.raises(FetchTooLarge):
        get(f"http://127.0.0.1:{port}/")
    assert sent < 50_000_000


def test_nothing_is_decompressed() -> None:
    """A small answer that would unfold into a huge one is refused unread."""
    bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"
    with server(bomb) as (port, requests), pytest.raises(FetchRefused, match="compresses"):
        get(f"http://127.0.0.1:{port}/")
    assert b"Accept-Encoding: identity" in requests[0]


def test_a_web_page_is_not_a_file() -> None:
    """A sign-in page answered with 200 is told from the file it stands in front of."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"
    with server(page) as (port, _), pytest.raises(FetchRefused, match="web page"):
        get(f"http://127.0.0.1:{port}/")


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
    """The server's trouble is worth another try, its refusal is not."""
    with (
        server(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()) as (port, _),
        pytest.raises(kind, match=f"answered {status}"),
    ):
        get(f"http://127.0.0.1:{port}/")


def _hang(connection: socket.socket, _: bytes) -> None:
    connection.recv(1)


def _drip_header(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def _drip_body(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def _drip_chunk_size(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def _drip_without_length(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "slow",
    [_hang, _drip_header, _drip_body, _drip_chunk_size, _drip_without_length],
    ids=lambda f: f.__name__,
)
def test_the_time_limit_holds_whatever_the_server_does(slow: Serve) -> None:
    """Silence, and a byte now and then, both end when the time is up."""
    with server(slow) as (port, _):
        began = time.monotonic()
        with pytest.raises(FetchUnreachable, match="took too long"):
            get(f"http://127.0.0.1:{port}/", timeout_seconds=0.5)
        assert time.monotonic() - began < 2


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit includes finding the address."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(5) and [])
    began = time.monotonic()
    with pytest.raises(FetchUnreachable, match="resolve"):
        get("http://slow.example/", timeout_seconds=0.3)
    release.set()
    assert time.monotonic() - began < 2


def test_a_connection_cut_short_is_no_file() -> None:
    """Fewer bytes than announced is a failure, not a shorter file."""
    with (
        server(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello") as (port, _),
        pytest.raises(FetchUnreachable),
    ):
        get(f"http://127.0.0.1:{port}/")


def test_no_server_is_a_typed_failure() -> None:
    """A refused connection and a name that does not exist are unreachable, with no traceback of httpx."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchUnreachable, match="no answer"):
        get(f"http://127.0.0.1:{port}/")
    with pytest.raises(FetchUnreachable, match="does not resolve"):
        get("http://nowhere.invalid/")


@pytest.mark.parametrize(
    "nonsense", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"\x00" * 200]
)
def test_an_answer_that_is_no_http_is_a_typed_failure(nonsense: bytes) -> None:
    """Whatever listens there, the failure is one of fetch's own."""
    with server(nonsense) as (port, _), pytest.raises(FetchUnreachable):
        get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("length", ["9" * 30, "9" * 5_000])
def test_an_absurd_length_is_a_typed_failure(length: str) -> None:
    """A length no number can hold is too large, or no HTTP, but never another error."""
    with (
        server(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()) as (port, _),
        pytest.raises((FetchTooLarge, FetchUnreachable)),
    ):
        get(f"http://127.0.0.1:{port}/")


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve names itself, and so undo every check."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server(OK) as (port, _):
        assert get(f"http://127.0.0.1:{port}/") == b"hello"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and key for voices.example, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voices.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("voices.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "voices.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_https_is_checked_against_the_name_though_connected_by_address(
    authority: Path, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinning the address does not weaken TLS: the certificate must be the host's, and SNI names the host."""
    names["voices.example"] = names["other.example"] = ["127.0.0.1"]
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority)
    asked: list[str | None] = []
    serving.sni_callback = lambda _socket, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(authority))
    with server(OK, OK, OK, tls=serving) as (port, _):
        with pytest.raises(FetchRefused, match="certificate"):
            get(f"https://voices.example:{port}/")  # nobody vouches for it yet
        monkeypatch.setattr(room, "_trust", lambda: trusting)
        assert get(f"https://voices.example:{port}/") == b"hello"
        with pytest.raises(FetchRefused, match="certificate"):
            get(f"https://other.example:{port}/")
    assert asked == ["voices.example", "voices.example", "other.example"]


def test_a_redirect_does_not_leave_https(
    authority: Path, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for over https comes over https: nobody between may answer instead."""
    names["voices.example"] = ["127.0.0.1"]
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority)
    monkeypatch.setattr(room, "_trust", lambda: ssl.create_default_context(cafile=str(authority)))
    with server(OK) as (clear, seen):
        location = f"Location: http://127.0.0.1:{clear}/\r\n".encode()
        moved = b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n"
        with server(moved, tls=serving) as (port, _), pytest.raises(FetchRefused, match="without https"):
            get(f"https://voices.example:{port}/")
        assert seen == []


def test_fetch_imports_nothing_of_the_pipeline() -> None:
    """The worker takes this room along and nothing else of the pipeline but the contract."""
    code = (
        "import sys, narration.fetch;"
        "print([m for m in sys.modules if m.startswith('narration.') and m not in"
        " ('narration.fetch', 'narration.contract')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
