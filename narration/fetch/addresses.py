"""Which IP addresses a download may connect to: those that are public."""

from __future__ import annotations

import ipaddress
import socket
import threading
from queue import Empty, SimpleQueue

import httpx

from narration.fetch.errors import FetchRefused, FetchUnreachable
from narration.fetch.urls import display_url

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_ALSO_SPECIAL = (  # networks that not every patch release of Python 3.11 counts as special
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def resolve_host(url: httpx.URL, *, timeout_seconds: float, allow_private: bool) -> list[str]:
    """Return the IP addresses of the URL's host, in the resolver's order.

    Raises `FetchRefused` when one of them is not public (unless `allow_private`), `FetchUnreachable` when
    the name does not resolve in time.
    """
    answers: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

    def resolve() -> None:
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
            entries = socket.getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    # getaddrinfo has no timeout, so it runs in a thread that can be left behind.
    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        addresses = answers.get(timeout=timeout_seconds)
    except Empty:
        raise FetchUnreachable(f"{display_url(url)}: its name took too long to resolve") from None
    if isinstance(addresses, Exception) or not addresses:
        raise FetchUnreachable(f"{display_url(url)}: its name does not resolve")
    if not allow_private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        raise FetchRefused(f"{display_url(url)}: is not at a public address")
    return addresses


def is_public(address: IPAddress) -> bool:
    """Whether `address` is a public unicast address, as is any IPv4 address that it embeds."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour and not is_public(address.sixtofour):
            return False
        if address not in _GLOBAL_UNICAST:
            return False
    special = address.is_multicast or any(address in network for network in _ALSO_SPECIAL)
    return address.is_global and not special
