"""The one download of what others name: public addresses only, bounded in size and time.

```
FetchError
├── FetchRefused       an address that is not fetched, or an answer that is not the file
├── FetchTooLarge      more bytes than allowed
└── FetchUnreachable   no answer in time, or the server is in trouble: try again
```
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Self

import httpx

# It logs whole URLs, and those of samples carry signatures.
logging.getLogger("httpx").setLevel(logging.WARNING)

MAX_REDIRECTS = 5
MAX_URL_CHARACTERS = 4_096

_LENGTH_DIGITS = 15
_READ_SECONDS = 10.0  # without a byte
_NOT_FOR_ALL = (  # beyond those that every patch release of Python 3.11 knows to be special
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TRY_AGAIN = frozenset({408, 425, 429})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class FetchError(Exception):
    """A download that gave no bytes. Messages name scheme, host and path, never the query: it may sign."""


class FetchRefused(FetchError):
    """The URL may not be fetched, or what it answers is not the file."""


class FetchTooLarge(FetchError):
    """The answer is larger than allowed."""


class FetchUnreachable(FetchError):
    """No whole answer in time, or one that says to come back later."""


def fetch(url: str, *, max_bytes: int, timeout_seconds: float, allow_private: bool = False) -> bytes:
    """Download the file at an http or https `url`: at most `max_bytes`, in `timeout_seconds` over all.

    Every address that the host's name resolves to must be public (unless `allow_private`),
    and the connection is made to one that was checked, so that a name cannot change its mind
    in between. Each redirect is checked anew, and none leaves https for http. Proxies of the
    environment are not used, and an answer is taken only as the file's own bytes, never
    decompressed. Blocks; safe to run in many threads. Raises `FetchError`.
    """
    target = _parse(url)
    with _Deadline(timeout_seconds) as deadline:
        for _ in range(MAX_REDIRECTS + 1):
            answer = _hop(target, max_bytes, deadline, allow_private=allow_private)
            if isinstance(answer, bytes):
                return answer
            if target.scheme == "https" and answer.scheme != "https":
                raise FetchRefused(f"{_shown(target)}: redirects to an address without https")
            target = answer
    raise FetchRefused(f"{_shown(target)}: more than {MAX_REDIRECTS} redirects")


class _Deadline:
    """Ends a download when its time is up, whatever the server is doing.

    Timeouts of single reads do not: a server that sends a byte now and then resets them. So
    the connection in use is shut from a timer.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def left(self) -> float:
        """Seconds left, at least a moment, since no time at all would mean no limit."""
        return max(0.001, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow the connection's socket through httpx's trace events."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._connection = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._shut()

    def _shut(self) -> None:
        try:
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it closed by itself in this moment


def _hop(target: httpx.URL, max_bytes: int, deadline: _Deadline, *, allow_private: bool) -> bytes | httpx.URL:
    """One request: the file's bytes, or where the server says they are.

    A client of its own each time: nothing of one host, no connection and no cookie, is used for another.
    """
    addresses = _resolve(target, deadline, allow_private=allow_private)
    try:
        with httpx.Client(trust_env=False, verify=_trust()) as client:
            response = _connect(client, target, addresses, deadline)
            try:
                if response.has_redirect_location:
                    return _parse(str(target.join(response.headers["location"])))
                return _body(response, target, max_bytes, deadline)
            finally:
                response.close()
    except (httpx.InvalidURL, UnicodeError):
        raise FetchRefused(f"{_shown(target)}: redirects to what is no URL") from None
    except httpx.HTTPError as error:
        if deadline.passed:
            raise FetchUnreachable(f"{_shown(target)}: took too long") from None
        if _distrusted(error):
            raise FetchRefused(f"{_shown(target)}: its certificate is not valid for it") from None
        raise FetchUnreachable(f"{_shown(target)}: no answer ({type(error).__name__})") from None


def _connect(
    client: httpx.Client, target: httpx.URL, addresses: list[str], deadline: _Deadline
) -> httpx.Response:
    """Ask the first of the checked `addresses` that can be connected to, in the host's own name."""
    for number, address in enumerate(addresses, start=1):
        request = client.build_request(
            "GET",
            target.copy_with(host=address, fragment=None),
            headers={"Host": target.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            timeout=min(deadline.left, _READ_SECONDS),
            extensions={"sni_hostname": target.raw_host.decode("ascii"), "trace": deadline.trace},
        )
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses) or deadline.passed:
                raise
    raise AssertionError("a name resolves to at least one address")


def _body(response: httpx.Response, target: httpx.URL, max_bytes: int, deadline: _Deadline) -> bytes:
    status, headers = response.status_code, response.headers
    if status >= 500 or status in _TRY_AGAIN:
        raise FetchUnreachable(f"{_shown(target)}: the server answered {status}")
    if status != 200:
        raise FetchRefused(f"{_shown(target)}: the server answered {status}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchRefused(f"{_shown(target)}: the server compresses it, though asked not to")
    if headers.get("content-type", "").lower().startswith("text/html"):
        raise FetchRefused(f"{_shown(target)}: is a web page, not a file")
    announced = headers.get("content-length", "0")
    if len(announced) > _LENGTH_DIGITS or int(announced) > max_bytes:  # only digits come this far
        raise FetchTooLarge(f"{_shown(target)}: larger than {max_bytes} bytes")
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > max_bytes:
            raise FetchTooLarge(f"{_shown(target)}: larger than {max_bytes} bytes")
    if deadline.passed:  # the end may be ours: without a length, a shut connection looks like one
        raise FetchUnreachable(f"{_shown(target)}: took too long")
    return bytes(data)


def _parse(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url) if len(url) <= MAX_URL_CHARACTERS else None
    except (httpx.InvalidURL, UnicodeError):  # the latter of a lone surrogate
        target = None
    if (
        target is None
        or target.scheme not in {"http", "https"}
        or not target.raw_host  # `host` would decode it, which not every name survives
        or not 0 < (target.port or 80) < 65_536
    ):
        raise FetchRefused("not an http or https URL")
    if target.userinfo:
        raise FetchRefused(f"{_shown(target)}: holds a user name or a password")
    return target


def _shown(url: httpx.URL) -> str:
    """The URL as messages say it: without what may be secret, and nothing a terminal obeys."""
    path = url.raw_path.decode("ascii").partition("?")[0]
    host = url.raw_host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{host}{port}{path}"[:200]


def _resolve(target: httpx.URL, deadline: _Deadline, *, allow_private: bool) -> list[str]:
    """The addresses of the host, all of them public; a resolver has no timeout, so it gets a thread."""
    found: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

    def ask() -> None:
        try:
            port = target.port or (443 if target.scheme == "https" else 80)
            answers = socket.getaddrinfo(target.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = found.get(timeout=deadline.left)
    except Empty:
        raise FetchUnreachable(f"{_shown(target)}: its name took too long to resolve") from None
    if isinstance(answer, Exception) or not answer:
        raise FetchUnreachable(f"{_shown(target)}: its name does not resolve")
    if not allow_private and not all(_is_public(ipaddress.ip_address(address)) for address in answer):
        raise FetchRefused(f"{_shown(target)}: is not at a public address")
    return answer


def _is_public(address: Address) -> bool:
    """Whether the whole internet means the same machine by `address`, also by one that carries another."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return _is_public(address.ipv4_mapped)
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour and not _is_public(address.sixtofour):
            return False
        if address not in _GLOBAL_UNICAST:
            return False
    special = address.is_multicast or any(address in network for network in _NOT_FOR_ALL)
    return address.is_global and not special


def _distrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


@cache
def _trust() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
