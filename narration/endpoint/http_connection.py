"""HTTP requests to one endpoint: its address and key checked, each response read within limits."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass

import httpx

from narration.endpoint.messages import one_line
from narration.endpoint.responses import EndpointResponse
from narration.endpoint.retrying import TransientFailure
from narration.errors import BadResult, SettingsError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the client's connections, calls and repetitions. Times in seconds, sizes in bytes."""

    connections: int = 100  # more than the rate limiters let through, so that no call waits for a connection
    idle_connections: int = 16  # each call costs httpx's pool a walk over all pairs of them
    idle_seconds: float = (
        4.0  # servers close after 5 s or more: no submission should meet a closing connection
    )
    connect_seconds: float = 10.0
    read_seconds: float = 30.0  # without a byte
    call_seconds: float = 120.0  # for one call in all, however slowly its response arrives
    response_bytes: int = 30_000_000  # RunPod's own limit for a result is 10 to 20 MB
    retry_seconds: float = 120.0  # for which a failing call is repeated
    brief_retry_seconds: float = 10.0  # the same, where a person waits: cancelling and health
    cancellation_seconds: float = 30.0  # for cancelling a job whose caller was cancelled


class HttpConnection:
    """A pool of connections to the endpoint's address, to which alone the key is sent."""

    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        *,
        base_url: str,
        transport: httpx.AsyncBaseTransport | None,
        limits: Limits,
    ) -> None:
        self.address = f"{_check_base_url(base_url)}/{_check_endpoint_id(endpoint_id)}"
        self._key = _check_api_key(api_key).encode()
        self._limits = limits
        self._client = httpx.AsyncClient(
            headers={
                "Authorization": f"Bearer {api_key}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # base64 hardly shrinks, and is no decompression bomb
                "User-Agent": "narration-pipeline",
            },
            timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
            limits=httpx.Limits(
                max_connections=limits.connections,
                max_keepalive_connections=limits.idle_connections,
                keepalive_expiry=limits.idle_seconds,
            ),
            follow_redirects=False,  # the key must reach this host only
            trust_env=base_url.lower().startswith("https:"),  # no proxy sees a key sent in the clear
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, method: str, path: str, content: bytes | None = None) -> EndpointResponse:
        """Send one request to `path` below the endpoint's address; `content` is JSON.

        Raises `TransientFailure` if no whole response arrives, and `BadResult` for a response larger
        than `response_bytes`.
        """
        headers = {"Content-Type": "application/json"} if content is not None else None
        request = self._client.build_request(method, self.address + path, content=content, headers=headers)
        # The errors of httpx hold the request and with it the key, so none is kept as a cause.
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise TransientFailure(f"no connection: {_describe(error)}", maybe_applied=False) from None
        except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
            raise TransientFailure(f"no response: {_describe(error)}", maybe_applied=True) from None
        return EndpointResponse(path, response.status_code, response.headers, self._without_key(body))

    def _without_key(self, body: bytes) -> bytes:
        """`body` with the key replaced, in case the server repeats it in an explanation."""
        return body.replace(self._key, b"[key]") if len(self._key) >= 16 else body

    async def _read(self, response: httpx.Response) -> bytes:
        limit = self._limits.response_bytes
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise TransientFailure(f"the response is encoded as {one_line(encoding, 40)}", maybe_applied=True)
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > limit:
                raise BadResult(f"the response to {response.request.url.path} is larger than {limit:,} bytes")
            parts.append(part)
        return b"".join(parts)


def _describe(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}").rstrip(": ")


def _check_base_url(base_url: str) -> str:
    """`base_url` without its last slash; raises `SettingsError` if the key must not be sent there."""
    remedy = "give NARRATION_RUNPOD_URL as https://HOST/PATH, or http:// on this machine"
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        raise SettingsError("the endpoint's base URL is not a URL", remedy=remedy) from None
    if url.userinfo or url.query or url.fragment or not url.host:
        raise SettingsError("the endpoint's base URL may have a host and a path only", remedy=remedy)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        raise SettingsError("with this base URL the key would be sent unencrypted", remedy=remedy)
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_endpoint_id(endpoint_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", endpoint_id):
        raise SettingsError(
            "the endpoint's id may have letters, digits, - and _ only",
            remedy="check RUNPOD_HIGGS_ENDPOINT_ID",
        )
    return endpoint_id


def _check_api_key(api_key: str) -> str:
    """Refuse a key that no HTTP header can hold; httpx's own message would show the key."""
    if not re.fullmatch(r"[!-~]{1,1000}", api_key):
        raise SettingsError(
            "the API key is empty, or has spaces or characters outside ASCII", remedy="check RUNPOD_API_KEY"
        )
    return api_key
