"""The endpoint's client over real sockets: what breaks below HTTP, and where the key may go."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import struct
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import Callable

import pytest
from support.endpoint import ENDPOINT_ID, KEY, POLICY, REQUEST, WAV, Behaviour, clip_output, ignore, loopback

from narration.endpoint import Endpoint, Limits
from narration.errors import BadResult, EndpointRefused, EndpointUnavailable, SettingsError

HASTE = Limits(
    connect_seconds=0.5, read_seconds=0.2, call_seconds=0.3, retry_seconds=1.5, brief_retry_seconds=1.5
)


def http(document: object, *, status: str = "200 OK", headers: str = "") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


def answers(*bodies: bytes) -> Behaviour:
    """Answer each connection with the next of `bodies`, the last forever; close without one that is empty."""
    left = list(bodies)

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        await drain_request(head, reader)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return behave


async def drain_request(head: bytes, reader: Reader) -> None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))


def client(url: str, limits: Limits = HASTE) -> Endpoint:
    return Endpoint(ENDPOINT_ID, KEY, base_url=url, limits=limits)


DONE = http({"status": "COMPLETED", "output": clip_output(), "executionTime": 5})
ACCEPTED = http({"id": "job-1", "status": "IN_QUEUE"})


async def test_a_clip_comes_back_over_real_sockets() -> None:
    """Submission, look and decoding work against a server that is not a mock, key and all."""
    heads: list[bytes] = []

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await drain_request(head, reader)
        writer.write(ACCEPTED if head.startswith(b"POST") else DONE)

    async with loopback(behave) as url, client(url) as endpoint:
        got = await endpoint.synthesize(REQUEST, POLICY, deadline_seconds=10, on_submitted=ignore)
    assert got.audio == WAV
    assert heads[0].startswith(b"POST /v2/ep-1/run HTTP/1.1")
    assert heads[1].startswith(b"GET /v2/ep-1/status/job-1 HTTP/1.1")
    assert f"authorization: bearer {KEY}".lower().encode() in heads[1].lower()


async def test_one_pool_keeps_its_connection_between_calls() -> None:
    """Looks in a row do not each open a connection."""
    connections: list[bytes] = []
    body = b'{"status":"IN_QUEUE"}'

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        connections.append(head)
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await reader.readuntil(b"\r\n\r\n")

    async with loopback(behave) as url, client(url) as endpoint:
        for _ in range(5):
            await endpoint.status("job-1")
    assert len(connections) == 1


LINGER_NOT = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # close with a reset
PARTIAL = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b'{"status": "COMPL'


def reset(heads: list[bytes]) -> Behaviour:
    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await drain_request(head, reader)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        writer.transport.abort()

    return behave


def mute(heads: list[bytes]) -> Behaviour:
    async def behave(head: bytes, reader: Reader, _: Writer) -> None:
        heads.append(head)
        await drain_request(head, reader)
        await asyncio.sleep(0.4)

    return behave


def cut(heads: list[bytes]) -> Behaviour:
    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await drain_request(head, reader)
        writer.write(PARTIAL)

    return behave


def drip(heads: list[bytes]) -> Behaviour:
    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await drain_request(head, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    return behave


@pytest.mark.parametrize("breakage", [reset, mute, cut, drip])
async def test_a_broken_answer_is_asked_for_again_but_a_submission_is_not(
    breakage: Callable[[list[bytes]], Behaviour],
) -> None:
    """Reset, silence, half a body, an endless one: looks repeat; a submission may have been heard."""
    heads: list[bytes] = []
    async with loopback(breakage(heads)) as url, client(url) as endpoint:
        with pytest.raises(EndpointUnavailable) as looked:
            await endpoint.status("job-1")
        looks = len(heads)
        with pytest.raises(EndpointUnavailable) as submitted:
            await endpoint.run(REQUEST, POLICY)
    assert looks >= 2
    assert len(heads) == looks + 1
    assert not looked.value.maybe_accepted
    assert submitted.value.maybe_accepted


async def test_a_look_survives_a_reset_and_a_half_answer() -> None:
    """Two breakages in a row, then the clip: nothing is lost."""
    async with loopback(answers(b"", PARTIAL, DONE)) as url:
        patient = Limits(read_seconds=0.5, retry_seconds=10)
        async with client(url, patient) as endpoint:
            assert (await endpoint.result("job-1", deadline_seconds=20)).audio == WAV


async def test_a_port_where_nobody_listens_is_named_as_no_connection() -> None:
    """A refused connection was never heard: it is repeated, then said, and nothing may have been accepted."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v2"
    async with client(url) as endpoint:
        with pytest.raises(EndpointUnavailable, match="no connection") as caught:
            await endpoint.run(REQUEST, POLICY)
    assert not caught.value.maybe_accepted


async def test_a_body_without_end_is_cut_at_the_limit() -> None:
    """The limit holds while streaming, also where no length was announced."""

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        await drain_request(head, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b"A" * 65_536 + b"\r\n")
            await writer.drain()

    async with loopback(behave) as url, client(url, Limits(response_bytes=1_000_000)) as endpoint:
        with pytest.raises(BadResult, match="1,000,000 bytes"):
            await endpoint.status("job-1")


async def test_a_compressed_answer_is_bounded_by_what_it_unpacks_to() -> None:
    """Gzip that nobody asked for is read, and a bomb of it stops at the limit."""
    packed = gzip.compress(b" " * 3_000_000 + b'{"status":"IN_QUEUE"}')
    async with loopback(answers(http(packed, headers="Content-Encoding: gzip\r\n"))) as url:
        async with client(url, Limits(response_bytes=4_000_000)) as endpoint:
            assert not (await endpoint.status("job-1")).status.terminal
        async with client(url, Limits(response_bytes=1_000_000)) as endpoint:
            with pytest.raises(BadResult):
                await endpoint.status("job-1")


async def test_an_encoding_that_unpacks_without_bound_is_not_unpacked() -> None:
    """Brotli and zstd were not asked for, and a few bytes of them can fill the memory."""
    async with (
        loopback(answers(http(b"\x00" * 50, headers="Content-Encoding: br\r\n"))) as url,
        client(url) as endpoint,
    ):
        with pytest.raises(EndpointUnavailable, match="encoded as br"):
            await endpoint.status("job-1")


async def test_the_key_follows_no_redirect() -> None:
    """A redirect is refused: the host it points to hears nothing, and so not the key."""
    heard: list[bytes] = []

    async def listen(head: bytes, reader: Reader, writer: Writer) -> None:
        heard.append(head)
        await drain_request(head, reader)
        writer.write(DONE)

    async with loopback(listen) as other:
        moved = http({}, status="307 Temporary Redirect", headers=f"Location: {other}/ep-1/run\r\n")
        async with loopback(answers(moved)) as url, client(url) as endpoint:
            for call in (endpoint.run(REQUEST, POLICY), endpoint.status("job-1"), endpoint.health()):
                with pytest.raises(EndpointRefused, match="redirects are not followed"):
                    await call
    assert heard == []


async def test_a_proxy_of_the_environment_never_sees_a_key_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plain HTTP is for this machine, and goes there straight."""
    heard: list[bytes] = []

    async def listen(head: bytes, _: Reader, __: Writer) -> None:
        heard.append(head)

    async with loopback(listen) as proxy, loopback(answers(ACCEPTED)) as url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client(url) as endpoint:
            assert await endpoint.run(REQUEST, POLICY) == "job-1"
    assert heard == []


@pytest.mark.parametrize(
    "url",
    [
        "http://api.runpod.ai/v2",
        "http://127.0.0.1.example.com/v2",
        "http://169.254.169.254/v2",
        "http://0.0.0.0/v2",
        "ftp://127.0.0.1/v2",
        "file:///etc/passwd",
        "127.0.0.1:8000/v2",
        "https://",
        "https://user:secret@api.runpod.ai/v2",
        "https://api.runpod.ai/v2?key=secret",
        "https://api.runpod.ai/v2#secret",
        "https://api.runpod.ai:port/v2",
        "",
    ],
)
def test_an_address_that_would_give_the_key_away_is_refused(url: str) -> None:
    """HTTPS anywhere, HTTP to this machine only, and nothing in the address that hides a secret."""
    with pytest.raises(SettingsError, match="NARRATION_RUNPOD_URL") as caught:
        Endpoint(ENDPOINT_ID, KEY, base_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://api.runpod.ai/v2/", "http://127.0.0.1:1/v2", "http://[::1]:1/v2", "http://localhost:1"]
)
async def test_an_address_that_is_safe_is_taken(url: str) -> None:
    """The slash at the end does not matter."""
    async with Endpoint(ENDPOINT_ID, KEY, base_url=url) as endpoint:
        assert repr(endpoint) == f"Endpoint({url.rstrip('/')}/{ENDPOINT_ID})"


@pytest.mark.parametrize("key", ["", "with space", "rpa_SECRETSECRET\n", "rpa_SECRETSECRETé", "\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    """A key pasted with its line break is the commonest: the setting is named, the key is not."""
    with pytest.raises(SettingsError, match="RUNPOD_API_KEY") as caught:
        Endpoint(ENDPOINT_ID, key)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("endpoint_id", ["", "a/b", "..", "a b", "é", "a?b"])
def test_an_endpoint_id_that_would_change_the_path_is_refused(endpoint_id: str) -> None:
    """It becomes part of the address that the key is sent to."""
    with pytest.raises(SettingsError, match="RUNPOD_HIGGS_ENDPOINT_ID"):
        Endpoint(endpoint_id, KEY)
