"""One HTTP request on its way through `http_proxy`: forwarded, answered or cut off by an action on it."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from dataclasses import dataclass, field


@dataclass
class RecordedRequest:
    """One request that arrived; `status` is what the server answered, 0 where it was not asked."""

    method: str
    path: str
    status: int = 0
    at: float = field(default_factory=time.monotonic)


class Exchange:
    """One request, with the connections to client and server.

    `record` is what the proxy keeps of it. `upstream` is the server's host and port.
    """

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
        self.record = RecordedRequest(self.method, self.path)

    async def body(self, share: float = 1.0) -> bytes:
        """The request's body, or its first `share`."""
        if self._body is None:
            if self._headers.get("expect", "").lower() == "100-continue":
                self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert "transfer-encoding" not in self._headers, "this proxy reads no chunked bodies"
            length = int(self._headers.get("content-length", 0))
            self._body = await self._reader.readexactly(round(length * share))
        return self._body

    async def forward(self, body: bytes | None = None) -> bytes:
        """Send the request to the server, with another `body` if one is given; its whole answer.

        Raises `ConnectionResetError` if client or server ends the connection first.
        """
        content = await self.body() if body is None else body
        dropped = {"connection", "keep-alive", "expect", "content-length"}
        kept = [f"{name}: {value}" for name, value in self._fields if name.lower() not in dropped]
        if content or "content-length" in self._headers:
            kept.append(f"Content-Length: {len(content)}")
        head = "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *kept, "Connection: close", "", ""])
        reader, writer = await asyncio.open_connection(*self._upstream)
        client_gone = asyncio.create_task(self._reader.read(1))
        try:
            writer.write(head.encode("latin-1") + content)
            answering = asyncio.create_task(reader.read(-1))
            await asyncio.wait([answering, client_gone], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                raise ConnectionResetError("the client closed the connection")
            answer = await answering
        finally:
            client_gone.cancel()
            writer.close()
        if not answer:
            raise ConnectionResetError("the server closed the connection")
        self.record.status = int(answer.split(b" ", 2)[1])
        return answer

    async def send(self, data: bytes) -> None:
        """Send these bytes to the client."""
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer the client in the server's place; `_` in a header's name stands for `-`."""
        await self.body()
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} Fault\r\n{named}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await self.send(head.encode() + (b"" if self.method == "HEAD" else body))

    def abort(self) -> None:
        """Reset the client's connection."""
        sock = self._writer.get_extra_info("socket")
        at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self._writer.transport.abort()
