"""What `http_proxy` can do to one request in place of passing it on: the faults of networks and servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from support.http_exchange import Exchange

Action = Callable[[Exchange], Awaitable[object]]
"""Handles one request. One that returns `NOT_APPLIED` passed it on unchanged, and waits for another."""

NOT_APPLIED = object()


async def pass_on(exchange: Exchange) -> None:
    """Pass request and answer on unchanged."""
    await exchange.send(await exchange.forward())


def answer_with(status: int, body: bytes = b"", **headers: str) -> Action:
    """Answer the client; the server does not get the request."""

    async def act(exchange: Exchange) -> None:
        await exchange.reply(status, body, **headers)

    return act


async def reset_connection(exchange: Exchange) -> None:
    """Reset the connection; the server does not get the request."""
    exchange.abort()


async def lose_answer(exchange: Exchange) -> None:
    """The server handles the request; the connection is reset before its answer."""
    await exchange.forward()
    exchange.abort()


async def cut_answer(exchange: Exchange) -> None:
    """The server handles the request; half of its answer arrives."""
    answer = await exchange.forward()
    await exchange.send(answer[: len(answer) // 2])
    exchange.abort()


async def cut_request(exchange: Exchange) -> None:
    """The connection is reset in the middle of the request's body."""
    await exchange.body(0.5)
    exchange.abort()


def replace_answer(status: int, body: bytes = b"", **headers: str) -> Action:
    """The server handles the request; the client gets another answer."""

    async def act(exchange: Exchange) -> None:
        await exchange.forward()
        await exchange.reply(status, body, **headers)

    return act


def delay(seconds: float) -> Action:
    """Pass the request on after so many seconds."""

    async def act(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.sleep(seconds)
        await pass_on(exchange)

    return act


def never_answer(seconds: float) -> Action:
    """Accept the request and reset the connection after so many seconds without an answer."""

    async def act(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.sleep(seconds)
        exchange.abort()

    return act


def edit_answer(change: Callable[[dict[str, Any]], object]) -> Action:
    """Replace the server's JSON answer by what `change` returns for it."""

    async def act(exchange: Exchange) -> None:
        _, _, body = (await exchange.forward()).partition(b"\r\n\r\n")
        changed = json.dumps(change(json.loads(body))).encode()
        await exchange.reply(exchange.record.status, changed, Content_Type="application/json")

    return act


def edit_request(change: Callable[[dict[str, Any]], object], *, status: int | None = None) -> Action:
    """Send the server what `change` returns for the request's JSON; answer with `status`, if given."""

    async def act(exchange: Exchange) -> None:
        changed = json.dumps(change(json.loads(await exchange.body()))).encode()
        answer = await exchange.forward(changed)
        await (exchange.send(answer) if status is None else exchange.reply(status))

    return act


def call_before(function: Callable[[], object], then: Action = pass_on) -> Action:
    """Call `function` in a thread, then do `then` to the request."""

    async def act(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.to_thread(function)
        await then(exchange)

    return act


def call_after(function: Callable[[], object], *, when: Callable[[bytes], bool] = lambda _: True) -> Action:
    """Call `function` in a thread once the client has an answer for which `when` is true."""

    async def act(exchange: Exchange) -> object:
        answer = await exchange.forward()
        await exchange.send(answer)
        if not when(answer):
            return NOT_APPLIED
        return await asyncio.to_thread(function)

    return act
