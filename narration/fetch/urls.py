"""Which URLs are fetched, and how messages name them."""

from __future__ import annotations

import httpx

from narration.fetch.errors import FetchRefused

MAX_URL_CHARACTERS = 4_096


def parse_url(text: str) -> httpx.URL:
    """Return the http or https URL that `text` is; raise `FetchRefused` for anything else.

    A URL with a user name or a password is refused as well.
    """
    try:
        url = httpx.URL(text) if len(text) <= MAX_URL_CHARACTERS else None
    except (httpx.InvalidURL, UnicodeError):  # the latter for a lone surrogate
        url = None
    if (
        url is None
        or url.scheme not in {"http", "https"}
        or not url.raw_host  # `host` decodes international names, and fails for some
        or not 0 < (url.port or 80) < 65_536
    ):
        raise FetchRefused("not an http or https URL")
    if url.userinfo:
        raise FetchRefused(f"{display_url(url)}: contains a user name or a password")
    return url


def display_url(url: httpx.URL) -> str:
    """The URL as messages show it: encoded, without its query, 200 characters at most."""
    path = url.raw_path.decode("ascii").partition("?")[0]
    host = url.raw_host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{host}{port}{path}"[:200]
