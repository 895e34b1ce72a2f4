"""The endpoint's client over real sockets: connections that break below HTTP, and where the key is sent."""

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
from support.fake_runpod import ENDPOINT_ID, KEY, POLICY, REQUEST, WAV, clip_output, record_nothing
from support.loopback_server import Behaviour, loopback_server

from narration.endpoint import Endpoint, Limits
from narration.errors import BadResult, EndpointRefused, EndpointUnavailable

SHORT_LIMITS = Limits(
    connect_seconds=0.5, read_seconds=0.2, call_seconds=0.3, retry_seconds=1.5, brief_retry_seconds=1.5
)


def http_response(document: object, *, status: str = "200 OK", headers: str = "") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


def respond(*responses: bytes) -> Behaviour:
    """Send each connection the next of `responses`, the last for ever; for an empty one only close it."""
    left = list(responses)

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        await read_body(head, reader)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return behave


async def read_body(head: bytes, reader: Reader) -> None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))


def client(url: str, limits: Limits = SHORT_LIMITS) -> Endpoint:
    return Endpoint(ENDPOINT_ID, KEY, base_url=url, limits=limits)


DONE = http_response({"status": "COMPLETED", "output": clip_output(), "executionTime": 5})
ACCEPTED = http_response({"id": "job-1", "status": "IN_QUEUE"})


async def test_a_clip_comes_back_over_real_sockets() -> None:
    """Submission, poll and decoding work against a real server, with the key in the header."""
    heads: list[bytes] = []

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await read_body(head, reader)
        writer.write(ACCEPTED if head.startswith(b"POST") else DONE)

    async with loopback_server(behave) as url, client(url) as endpoint:
        result = await endpoint.synthesize(REQUEST, POLICY, deadline_seconds=10, on_submitted=record_nothing)
    assert result.audio == WAV
    assert heads[0].startswith(b"POST /v2/ep-1/run HTTP/1.1")
    assert heads[1].startswith(b"GET /v2/ep-1/status/job-1 HTTP/1.1")
    assert f"authorization: bearer {KEY}".lower().encode() in heads[1].lower()


async def test_a_connection_is_kept_between_calls() -> None:
    """Polls in a row use one connection."""
    connections: list[bytes] = []
    body = b'{"status":"IN_QUEUE"}'

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        connections.append(head)
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await reader.readuntil(b"\r\n\r\n")

    async with loopback_server(behave) as url, client(url) as endpoint:
        for _ in range(5):
            await endpoint.status("job-1")
    assert len(connections) == 1


RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
PARTIAL = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b'{"status": "COMPL'


def reset(heads: list[bytes]) -> Behaviour:
    """Reset the connection after the request."""

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await read_body(head, reader)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()

    return behave


def stay_silent(heads: list[bytes]) -> Behaviour:
    """Send no response."""

    async def behave(head: bytes, reader: Reader, _: Writer) -> None:
        heads.append(head)
        await read_body(head, reader)
        await asyncio.sleep(0.4)

    return behave


def cut_off(heads: list[bytes]) -> Behaviour:
    """Send a part of the response, and close the connection."""

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await read_body(head, reader)
        writer.write(PARTIAL)

    return behave


def drip(heads: list[bytes]) -> Behaviour:
    """Send a response byte by byte, which never ends in time."""

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        await read_body(head, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    return behave


@pytest.mark.parametrize("breakage", [reset, stay_silent, cut_off, drip])
async def test_a_poll_without_a_whole_response_is_repeated_but_a_submission_is_not(
    breakage: Callable[[list[bytes]], Behaviour],
) -> None:
    """After a reset, silence, half a body or an endless one, a submission may have been accepted."""
    heads: list[bytes] = []
    async with loopback_server(breakage(heads)) as url, client(url) as endpoint:
        with pytest.raises(EndpointUnavailable) as poll_error:
            await endpoint.status("job-1")
        polls = len(heads)
        with pytest.raises(EndpointUnavailable) as submission_error:
            await endpoint.run(REQUEST, POLICY)
    assert polls >= 2
    assert len(heads) == polls + 1
    assert not poll_error.value.maybe_accepted
    assert submission_error.value.maybe_accepted


async def test_a_clip_is_taken_after_two_broken_responses() -> None:
    """A closed connection and half a response come first; the poll is repeated until it succeeds."""
    async with loopback_server(respond(b"", PARTIAL, DONE)) as url:
        patient = Limits(read_seconds=0.5, retry_seconds=10)
        async with client(url, patient) as endpoint:
            assert (await endpoint.result("job-1", deadline_seconds=20)).audio == WAV


async def test_a_refused_connection_is_reported_as_no_connection() -> None:
    """The submission is repeated; in the end the error says that no job was accepted."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v2"
    async with client(url) as endpoint:
        with pytest.raises(EndpointUnavailable, match="no connection") as caught:
            await endpoint.run(REQUEST, POLICY)
    assert not caught.value.maybe_accepted


async def test_an_endless_body_is_read_up_to_the_limit() -> None:
    """The limit holds while the body arrives, also without a Content-Length."""

    async def behave(head: bytes, reader: Reader, writer: Writer) -> None:
        await read_body(head, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b"A" * 65_536 + b"\r\n")
            await writer.drain()

    async with loopback_server(behave) as url, client(url, Limits(response_bytes=1_000_000)) as endpoint:
        with pytest.raises(BadResult, match="1,000,000 bytes"):
            await endpoint.status("job-1")


async def test_the_limit_counts_the_unpacked_bytes_of_a_compressed_response() -> None:
    """Gzip is read though the client did not ask for it, and unpacked only up to the limit."""
    packed = gzip.compress(b" " * 3_000_000 + b'{"status":"IN_QUEUE"}')
    async with loopback_server(respond(http_response(packed, headers="Content-Encoding: gzip\r\n"))) as url:
        async with client(url, Limits(response_bytes=4_000_000)) as endpoint:
            assert not (await endpoint.status("job-1")).status.terminal
        async with client(url, Limits(response_bytes=1_000_000)) as endpoint:
            with pytest.raises(BadResult):
                await endpoint.status("job-1")


async def test_a_response_in_brotli_or_zstd_is_not_unpacked() -> None:
    """The client did not ask for them, and a few bytes of them can fill the memory."""
    async with (
        loopback_server(respond(http_response(b"\x00" * 50, headers="Content-Encoding: br\r\n"))) as url,
        client(url) as endpoint,
    ):
        with pytest.raises(EndpointUnavailable, match="encoded as br"):
            await endpoint.status("job-1")


async def test_the_key_follows_no_redirect() -> None:
    """A redirect is an error; no request, and so no key, reaches the host it points to."""
    requests: list[bytes] = []

    async def listen(head: bytes, reader: Reader, writer: Writer) -> None:
        requests.append(head)
        await read_body(head, reader)
        writer.write(DONE)

    async with loopback_server(listen) as other:
        moved = http_response({}, status="307 Temporary Redirect", headers=f"Location: {other}/ep-1/run\r\n")
        async with loopback_server(respond(moved)) as url, client(url) as endpoint:
            for call in (endpoint.run(REQUEST, POLICY), endpoint.status("job-1"), endpoint.health()):
                with pytest.raises(EndpointRefused, match="redirects are not followed"):
                    await call
    assert requests == []


async def test_a_proxy_of_the_environment_never_sees_a_key_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plain HTTP is for this machine only, and goes there directly."""
    requests: list[bytes] = []

    async def listen(head: bytes, _: Reader, __: Writer) -> None:
        requests.append(head)

    async with loopback_server(listen) as proxy, loopback_server(respond(ACCEPTED)) as url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client(url) as endpoint:
            assert await endpoint.run(REQUEST, POLICY) == "job-1"
    assert requests == []
