"""A server on loopback for downloads, and names that resolve to chosen addresses."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from narration.fetch import fetch

Handler = Callable[[socket.socket, bytes], None]
"""Answers a request on its connection."""

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@contextmanager
def serving(
    *answers: bytes | Handler, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback that gives each connection the next answer; its port and the requests so far."""
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
                    continue  # the client closed the connection, as it may

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1], requests


def redirect_to(location: str, status: str = "302 Found") -> bytes:
    """An answer that redirects to `location`."""
    return f"HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def fetch_local(
    url: str,
    *,
    timeout_seconds: float = 5.0,
    allow_private: bool = True,
    tls_context: ssl.SSLContext | None = None,
) -> bytes:
    """`fetch` of at most 1,000 bytes, from private addresses too, within a few seconds."""
    return fetch(
        url,
        max_bytes=1_000,
        timeout_seconds=timeout_seconds,
        allow_private=allow_private,
        tls_context=tls_context,
    )


def resolve_names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Let the system's resolver answer from the returned table: host name to addresses, in their order."""
    table: dict[str, list[str]] = {}
    system_resolver = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in table:
            return [
                (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
                for ip in table[host]
            ]
        return system_resolver(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


def route_to_loopback(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let connections to `address` lead to the same port on loopback."""
    connect = socket.create_connection

    def connect_routed(target: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        host, port = target
        return connect(("127.0.0.1" if host == address else host, port), *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", connect_routed)
