"""Starts an HTTP proxy on loopback that puts faults on chosen requests; for `faults.services`."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass

from support.http_exchange import Exchange, RecordedRequest
from support.proxy_actions import NOT_APPLIED, Action, pass_on


@dataclass
class Rule:
    """Does `action` to the `times` requests of `method` and `path` that come after the first `skip`."""

    method: str
    path: re.Pattern[str]
    action: Action
    skip: int
    times: int
    matched: int = 0  # requests of its method and path so far
    applied: int = 0  # requests that its action changed

    def __str__(self) -> str:
        return f"{self.method} {self.path.pattern}"

    async def apply(self, exchange: Exchange) -> None:
        """Do the action to the request."""
        self.applied += 1  # before: the action may end the connection, and this task with it
        if await self.action(exchange) is NOT_APPLIED:
            self.applied -= 1

    def matches(self, exchange: Exchange) -> bool:
        """Whether the action is for this request; counts it."""
        if self.method not in ("*", exchange.method) or not self.path.search(exchange.path):
            return False
        self.matched += 1
        return self.skip < self.matched <= self.skip + self.times


class HttpProxy:
    """A proxy for the server at `upstream`. Call its coroutines on the event loop that opened it."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._port = 0
        self.is_open = False
        self.rules: list[Rule] = []
        self.requests: list[RecordedRequest] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    async def open(self) -> None:
        """Listen; a proxy that was open before keeps its port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=512)
        self._port = self._server.sockets[0].getsockname()[1]
        self.is_open = True

    async def close(self) -> None:
        """Refuse new connections and reset the open ones."""
        assert self._server is not None
        self.is_open = False
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def add_rule(self, method: str, path: str, action: Action, *, skip: int = 0, times: int = 1) -> None:
        """Do `action` to requests of `method` (or `*`) in whose path the pattern `path` is found.

        The first `skip` of them pass, and so do those after `times` more.
        """
        self.rules.append(Rule(method, re.compile(path), action, skip, times))

    def clear(self) -> None:
        """Remove all rules and recorded requests."""
        self.rules, self.requests = [], []

    def unused_rules(self) -> list[str]:
        """The rules whose action met no request."""
        return [str(rule) for rule in self.rules if not rule.applied]

    def count_answered(self, method: str, path: str, status: int = 200) -> int:
        """How many requests of `method` and pattern `path` the server answered with `status`."""
        pattern = re.compile(path)
        return sum(
            request.method == method and request.status == status and bool(pattern.search(request.path))
            for request in self.requests
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            exchange = Exchange(await reader.readuntil(b"\r\n\r\n"), reader, writer, self._upstream)
            self.requests.append(exchange.record)
            rule = next((rule for rule in list(self.rules) if rule.matches(exchange)), None)
            await (pass_on(exchange) if rule is None else rule.apply(exchange))
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
