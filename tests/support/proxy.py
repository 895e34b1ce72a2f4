"""A programmable HTTP proxy on loopback: what networks and servers do wrong, to one request or to all."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_READ = 1 << 16


@dataclass
class Call:
    """One request that arrived; `status` is what the server answered, 0 where it was not asked."""

    method: str
    path: str
    status: int = 0
    at: float = field(default_factory=time.monotonic)


class Exchange:
    """One request on its way through the proxy, with both ends in an action's hands."""

    def __init__(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: tuple[str, int],
    ) -> None:
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.path, _ = line.split(" ", 2)
        self._fields = [tuple(entry.split(": ", 1)) for entry in fields]
        self._headers = {name.lower(): value for name, value in self._fields}
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self._body: bytes | None = None
        self.call = Call(self.method, self.path)

    async def body(self, share: float = 1.0) -> bytes:
        """The request's body, or its first `share`."""
        if self._body is None:
            if self._headers.get("expect", "").lower() == "100-continue":
                self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert "transfer-encoding" not in self._headers, "chunked bodies are not for this proxy"
            length = int(self._headers.get("content-length", 0))
            self._body = await self._reader.readexactly(round(length * share))
        return self._body

    async def forward(self, body: bytes | None = None) -> bytes:
        """Ask the server, with another `body` if one is given; its whole answer."""
        content = await self.body() if body is None else body
        dropped = {"connection", "keep-alive", "expect", "content-length"}
        kept = [f"{name}: {value}" for name, value in self._fields if name.lower() not in dropped]
        if content or "content-length" in self._headers:
            kept.append(f"Content-Length: {len(content)}")
        head = "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *kept, "Connection: close", "", ""])
        reader, writer = await asyncio.open_connection(*self._upstream)
        gone = asyncio.create_task(self._reader.read(1))  # a caller that hangs up takes its request along
        try:
            writer.write(head.encode("latin-1") + content)
            answering = asyncio.create_task(reader.read(-1))
            await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                raise ConnectionResetError("the caller hung up")
            answer = await answering
        finally:
            gone.cancel()
            writer.close()
        if not answer:
            raise ConnectionResetError("the server hung up")
        self.call.status = int(answer.split(b" ", 2)[1])
        return answer

    async def send(self, data: bytes) -> None:
        """Answer the caller with these bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer the caller instead of the server."""
        await self.body()
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} Trouble\r\n{named}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await self.send(head.encode() + (b"" if self.method == "HEAD" else body))

    def abort(self) -> None:
        """Reset the connection."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._writer.transport.abort()


Action = Callable[[Exchange], Awaitable[object]]
"""What becomes of a request. One that returns `UNTOUCHED` let it pass: it was not its moment."""

UNTOUCHED = object()


async def passes(exchange: Exchange) -> None:
    """What happens without a fault."""
    await exchange.send(await exchange.forward())


def answers(status: int, body: bytes = b"", **headers: str) -> Action:
    """The server is not asked; somebody before it answers."""

    async def act(exchange: Exchange) -> None:
        await exchange.reply(status, body, **headers)

    return act


async def drops(exchange: Exchange) -> None:
    """The connection is reset before the server hears of it."""
    exchange.abort()


async def loses_answer(exchange: Exchange) -> None:
    """The server acts, and nobody hears."""
    await exchange.forward()
    exchange.abort()


async def halves_answer(exchange: Exchange) -> None:
    """The server acts, and half of its answer arrives."""
    answer = await exchange.forward()
    await exchange.send(answer[: len(answer) // 2])
    exchange.abort()


async def halves_request(exchange: Exchange) -> None:
    """The connection is lost in the middle of the upload."""
    await exchange.body(0.5)
    exchange.abort()


def replaces_answer(status: int, body: bytes = b"", **headers: str) -> Action:
    """The server acts, and the caller hears something else."""

    async def act(exchange: Exchange) -> None:
        await exchange.forward()
        await exchange.reply(status, body, **headers)

    return act


def stalls(seconds: float) -> Action:
    """The server is slow."""

    async def act(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.sleep(seconds)
        await passes(exchange)

    return act


def falls_silent(seconds: float) -> Action:
    """The request is taken and never answered."""

    async def act(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.sleep(seconds)
        exchange.abort()

    return act


def rewrites(change: Callable[[dict[str, Any]], object]) -> Action:
    """The server's answer, as JSON, becomes what `change` makes of it."""

    async def act(exchange: Exchange) -> None:
        _, _, body = (await exchange.forward()).partition(b"\r\n\r\n")
        changed = json.dumps(change(json.loads(body))).encode()
        await exchange.reply(exchange.call.status, changed, Content_Type="application/json")

    return act


def sends_instead(change: Callable[[dict[str, Any]], object], *, status: int | None = None) -> Action:
    """The server gets what `change` makes of the request's JSON; the caller hears `status`, if given."""

    async def act(exchange: Exchange) -> None:
        changed = json.dumps(change(json.loads(await exchange.body()))).encode()
        answer = await exchange.forward(changed)
        await (exchange.send(answer) if status is None else exchange.reply(status))

    return act


def does_first(deed: Callable[[], object], then: Action = passes) -> Action:
    """`deed` is done, off the event loop, before the request goes on."""

    async def act(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.to_thread(deed)
        await then(exchange)

    return act


def does_afterwards(deed: Callable[[], object], *, when: Callable[[bytes], bool] = lambda _: True) -> Action:
    """`deed` is done once the caller has its answer, if `when` says so of the answer."""

    async def act(exchange: Exchange) -> object:
        answer = await exchange.forward()
        await exchange.send(answer)
        if not when(answer):
            return UNTOUCHED
        return await asyncio.to_thread(deed)

    return act


@dataclass
class Rule:
    """What happens to the `times` requests of `method` and `path` that come after the first `skip`."""

    method: str
    path: re.Pattern[str]
    action: Action
    skip: int
    times: int
    met: int = 0
    struck: int = 0  # requests that it did not leave alone

    def __str__(self) -> str:
        return f"{self.method} {self.path.pattern}"

    async def act(self, exchange: Exchange) -> None:
        """Do to the request what this is for."""
        self.struck += 1  # before: the action may end the connection, this task and all
        if await self.action(exchange) is UNTOUCHED:
            self.struck -= 1

    def applies(self, exchange: Exchange) -> bool:
        """Whether this is one of its requests; counts it."""
        if self.method not in ("*", exchange.method) or not self.path.search(exchange.path):
            return False
        self.met += 1
        return self.skip < self.met <= self.skip + self.times


class Proxy:
    """An HTTP proxy before the server at `upstream`; its methods belong to the loop that opened it."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._port = 0
        self.listening = False
        self.rules: list[Rule] = []
        self.calls: list[Call] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def appear(self) -> None:
        """Listen, after `vanish` where it did before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=512)
        self._port = self._server.sockets[0].getsockname()[1]
        self.listening = True

    async def vanish(self) -> None:
        """Let nobody through any more: connections are refused, and those there are end."""
        assert self._server is not None
        self.listening = False
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def rule(self, method: str, path: str, action: Action, *, skip: int = 0, times: int = 1) -> Rule:
        """Apply `action` to requests of `method` (or `*`) whose path `path`, a pattern, is found in."""
        made = Rule(method, re.compile(path), action, skip, times)
        self.rules.append(made)
        return made

    def reset(self) -> None:
        """Forget rules and calls."""
        self.rules, self.calls = [], []

    def unmet(self) -> list[str]:
        """The rules that nothing came to: trouble that was made for nobody."""
        return [str(rule) for rule in self.rules if not rule.struck]

    def answered(self, method: str, path: str, status: int = 200) -> int:
        """How many such requests the server answered with `status`."""
        pattern = re.compile(path)
        return sum(
            call.method == method and call.status == status and bool(pattern.search(call.path))
            for call in self.calls
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            exchange = Exchange(await reader.readuntil(b"\r\n\r\n"), reader, writer, self._upstream)
            self.calls.append(exchange.call)
            rule = next((rule for rule in list(self.rules) if rule.applies(exchange)), None)
            await (passes(exchange) if rule is None else rule.act(exchange))
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
