"""One call over HTTP: the address and key it goes to, and the reply read within bounds."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass

import httpx

from narration.endpoint.messages import one_line
from narration.endpoint.responses import Reply
from narration.endpoint.retrying import TransientFailure
from narration.errors import BadResult, SettingsError


@dataclass(frozen=True, slots=True)
class Limits:
    """What the client allows itself and the endpoint. Times in seconds, sizes in bytes."""

    connections: int = 100  # more than the gates let through, so that none ever waits for one
    idle_connections: int = 16  # the pool below httpx walks over them at each call, pair by pair
    idle_seconds: float = 4.0  # servers close after 5 or more: no submission should meet a closing connection
    connect_seconds: float = 10.0
    read_seconds: float = 30.0  # without a byte
    call_seconds: float = 120.0  # one call in all, however slowly it drips
    answer_bytes: int = 30_000_000  # RunPod's own limit for a result is 10 to 20 MB
    patience_seconds: float = 120.0  # of trouble on end, before a call gives up
    brief_patience_seconds: float = 10.0  # the same, where a person waits: cancelling and health
    farewell_seconds: float = 30.0  # for cancelling a job that its caller walked away from


class HttpConnection:
    """The endpoint's address, one pool of connections to it, and the key that goes nowhere else."""

    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        *,
        base_url: str,
        transport: httpx.AsyncBaseTransport | None,
        limits: Limits,
    ) -> None:
        self.address = f"{_checked_base(base_url)}/{_checked_id(endpoint_id)}"
        self._key = _checked_key(api_key).encode()
        self._limits = limits
        self._client = httpx.AsyncClient(
            headers={
                "Authorization": f"Bearer {api_key}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # base64 hardly shrinks, and cannot hide a bomb
                "User-Agent": "narration-pipeline",
            },
            timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
            limits=httpx.Limits(
                max_connections=limits.connections,
                max_keepalive_connections=limits.idle_connections,
                keepalive_expiry=limits.idle_seconds,
            ),
            follow_redirects=False,  # the key is for this host alone
            trust_env=base_url.lower().startswith("https:"),  # no proxy sees a key sent in the clear
            transport=transport,
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def send(self, method: str, path: str, content: bytes | None = None) -> Reply:
        """Send one request to `path` below the endpoint's address; `content` is JSON.

        Raises `Trouble` when no whole reply comes, `BadResult` for one larger than the limit.
        """
        headers = {"Content-Type": "application/json"} if content is not None else None
        request = self._client.build_request(method, self.address + path, content=content, headers=headers)
        # The errors of httpx carry the request and with it the key: none travels on as a cause.
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise TransientFailure(f"no connection: {_said(error)}", acted=False) from None
        except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
            raise TransientFailure(f"no answer: {_said(error)}", acted=True) from None
        return Reply(path, response.status_code, response.headers, self._without_key(body))

    def _without_key(self, body: bytes) -> bytes:
        """`body` with the key blotted out, should the other side repeat it in an explanation."""
        return body.replace(self._key, b"[key]") if len(self._key) >= 16 else body

    async def _read(self, response: httpx.Response) -> bytes:
        most = self._limits.answer_bytes
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise TransientFailure(f"the answer is encoded as {one_line(encoding, 40)}", acted=True)
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > most:
                raise BadResult(f"the answer to {response.request.url.path} is larger than {most:,} bytes")
            parts.append(part)
        return b"".join(parts)


def _said(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}").rstrip(": ")


def _checked_base(base_url: str) -> str:
    """`base_url` without its last slash; raises `SettingsError` unless it is safe to send a key to."""
    remedy = "give NARRATION_RUNPOD_URL as https://HOST/PATH, or http:// on this machine"
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise SettingsError("the endpoint's base URL is not a URL", remedy=remedy) from None
    if url.userinfo or url.query or url.fragment or not url.host:
        raise SettingsError("the endpoint's base URL may hold a host and a path only", remedy=remedy)
    if url.scheme != "https" and not (url.scheme == "http" and _loopback(url.host)):
        raise SettingsError("the endpoint's base URL would carry the key unencrypted", remedy=remedy)
    return str(url).rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked_id(endpoint_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", endpoint_id):
        raise SettingsError(
            "the endpoint's id is letters, digits, - and _ only", remedy="check RUNPOD_HIGGS_ENDPOINT_ID"
        )
    return endpoint_id


def _checked_key(api_key: str) -> str:
    """Refuse here what an HTTP header cannot hold: the library's own message would show it."""
    if not re.fullmatch(r"[!-~]{1,1000}", api_key):
        raise SettingsError(
            "the API key is empty, or holds spaces or unusual characters", remedy="check RUNPOD_API_KEY"
        )
    return api_key
