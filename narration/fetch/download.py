"""The download itself: redirects, requests to checked addresses, and the reading of the file."""

from __future__ import annotations

import logging
import ssl
from functools import cache

import httpx

from narration.fetch.addresses import resolve_host
from narration.fetch.deadline import Deadline
from narration.fetch.errors import FetchRefused, FetchTooLarge, FetchUnreachable
from narration.fetch.urls import display_url, parse_url

# httpx logs whole URLs at INFO, and those of samples contain signatures.
logging.getLogger("httpx").setLevel(logging.WARNING)

MAX_REDIRECTS = 5

_LENGTH_DIGITS = 15
_READ_SECONDS = 10.0  # without a byte
_TRY_AGAIN = frozenset({408, 425, 429})  # beside every status from 500


def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout_seconds: float,
    allow_private: bool = False,
    tls_context: ssl.SSLContext | None = None,
) -> bytes:
    """Download the file at an http or https `url`, of at most `max_bytes`, within `timeout_seconds`.

    Every address that the host's name resolves to must be public (unless `allow_private`), and the
    connection goes to one of the addresses that were checked, so that a second, different answer of the
    resolver has no effect. Each redirect is checked in the same way, and none may lead from https to http.
    Proxies of the environment are not used, and a compressed answer is refused, since it could expand
    beyond `max_bytes`. Certificates are checked against certifi's authorities, or those of `tls_context`.
    Blocks; may run in many threads. Raises `FetchError`.
    """
    current = parse_url(url)
    trusted = tls_context or _certifi_context()
    with Deadline(timeout_seconds) as deadline:
        for _ in range(MAX_REDIRECTS + 1):
            result = _request(current, max_bytes, deadline, trusted, allow_private=allow_private)
            if isinstance(result, bytes):
                return result
            if current.scheme == "https" and result.scheme != "https":
                raise FetchRefused(f"{display_url(current)}: redirects to an address without https")
            current = result
    raise FetchRefused(f"{display_url(current)}: more than {MAX_REDIRECTS} redirects")


def _request(
    url: httpx.URL, max_bytes: int, deadline: Deadline, trusted: ssl.SSLContext, *, allow_private: bool
) -> bytes | httpx.URL:
    """Make one request; return the file's bytes, or the URL that the server redirects to.

    Each request has a client of its own, so that no connection or cookie of one host is used for another.
    """
    addresses = resolve_host(url, timeout_seconds=deadline.left, allow_private=allow_private)
    try:
        with httpx.Client(trust_env=False, verify=trusted) as client:
            response = _connect(client, url, addresses, deadline)
            try:
                if response.has_redirect_location:
                    return parse_url(str(url.join(response.headers["location"])))
                return _read_body(response, url, max_bytes, deadline)
            finally:
                response.close()
    except (httpx.InvalidURL, UnicodeError):
        raise FetchRefused(f"{display_url(url)}: redirects to something that is not a URL") from None
    except httpx.HTTPError as error:
        if deadline.passed:
            raise FetchUnreachable(f"{display_url(url)}: took too long") from None
        if _is_certificate_error(error):
            raise FetchRefused(f"{display_url(url)}: its certificate is not valid for this host") from None
        raise FetchUnreachable(f"{display_url(url)}: no answer ({type(error).__name__})") from None


def _connect(
    client: httpx.Client, url: httpx.URL, addresses: list[str], deadline: Deadline
) -> httpx.Response:
    """Send the request to the first of `addresses` that accepts a connection; Host and SNI name the host."""
    for number, address in enumerate(addresses, start=1):
        request = client.build_request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            timeout=min(deadline.left, _READ_SECONDS),
            extensions={"sni_hostname": url.raw_host.decode("ascii"), "trace": deadline.trace},
        )
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses) or deadline.passed:
                raise
    raise AssertionError("a name resolves to at least one address")


def _read_body(response: httpx.Response, url: httpx.URL, max_bytes: int, deadline: Deadline) -> bytes:
    """Return the file's bytes; refuse an answer that is not the whole file as it is."""
    status, headers = response.status_code, response.headers
    if status >= 500 or status in _TRY_AGAIN:
        raise FetchUnreachable(f"{display_url(url)}: the server answered {status}")
    if status != 200:
        raise FetchRefused(f"{display_url(url)}: the server answered {status}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchRefused(
            f"{display_url(url)}: the server compresses the file, though the request says not to"
        )
    if headers.get("content-type", "").lower().startswith("text/html"):
        raise FetchRefused(f"{display_url(url)}: is a web page, not a file")
    length = headers.get("content-length", "0")
    if len(length) > _LENGTH_DIGITS or int(length) > max_bytes:  # h11 lets only digits through
        raise FetchTooLarge(f"{display_url(url)}: larger than {max_bytes} bytes")
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > max_bytes:
            raise FetchTooLarge(f"{display_url(url)}: larger than {max_bytes} bytes")
    # Without a Content-Length, a connection that the deadline shut down looks like the end of the file.
    if deadline.passed:
        raise FetchUnreachable(f"{display_url(url)}: took too long")
    return bytes(data)


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


@cache
def _certifi_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
