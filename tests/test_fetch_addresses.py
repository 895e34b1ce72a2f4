"""Which URLs and addresses a download connects to: http and https, public addresses, the one checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from support.downloads import HELLO, fetch_local, resolve_names, serving

from narration.fetch import FetchRefused
from narration.fetch.addresses import is_public


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses that host names resolve to."""
    return resolve_names(monkeypatch)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.0.8",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "4000::1",
    ],
)
def test_a_private_or_special_address_is_refused(address: str, names: dict[str, list[str]]) -> None:
    """A host with one address that is not public is refused, also where IPv6 embeds that address."""
    assert not is_public(ipaddress.ip_address(address))
    names["inside.example"] = ["8.8.8.8", address]
    with pytest.raises(FetchRefused, match="not at a public address"):
        fetch_local("http://inside.example/a.wav", allow_private=False)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_allowed(address: str) -> None:
    """Public addresses pass, also a public IPv4 address in an IPv6 one."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]"]
)
def test_this_machine_is_refused_in_every_spelling(host: str) -> None:
    """A number that the system's resolver takes for an address is judged as that address."""
    with serving(HELLO) as (port, requests), pytest.raises(FetchRefused):
        fetch_local(f"http://{host}:{port}/", allow_private=False)
    assert requests == []


def test_the_connection_goes_to_the_address_that_was_checked(names: dict[str, list[str]]) -> None:
    """The resolver is asked once, so a different second answer has no effect."""
    lookups: list[str] = []

    class Rebinding(list[str]):
        def __iter__(self) -> Iterator[str]:
            lookups.append("rebind.example")
            return iter(["127.0.0.1"] if len(lookups) == 1 else ["127.0.0.99"])

    names["rebind.example"] = Rebinding()
    with serving(HELLO) as (port, requests):
        assert fetch_local(f"http://rebind.example:{port}/") == b"hello"
    assert lookups == ["rebind.example"]
    assert f"Host: rebind.example:{port}\r\n".encode() in requests[0]


def test_the_next_address_is_tried_when_one_does_not_answer(names: dict[str, list[str]]) -> None:
    """A host whose first address accepts no connection is reached at its second."""
    names["two.example"] = ["127.0.0.99", "127.0.0.1"]
    with serving(HELLO) as (port, _):
        assert fetch_local(f"http://two.example:{port}/") == b"hello"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gopher://example.com/",
        "//example.com/a",
        "example.com/a",
        "http://",
        "http:///a",
        "",
        "http://exa\nmple.com/",
        "http://[::1/",
        "http://example.com:99999/",
        "http://" + "a" * 5_000,
        "data:audio/wav;base64,AAAA",
        "http://example.com/\ud800",
    ],
)
def test_only_http_and_https_urls_are_fetched(url: str) -> None:
    """Any other text is refused before a name is resolved."""
    with pytest.raises(FetchRefused):
        fetch_local(url)


def test_a_url_with_a_password_is_refused_and_never_shown() -> None:
    """A URL with a user name or a password is not used, and the message contains neither."""
    with pytest.raises(FetchRefused) as refusal:
        fetch_local("https://user:hunter2@example.com/a?key=hunter3")
    assert "hunter" not in str(refusal.value)


@pytest.mark.parametrize("host", ["xn--", "xn--a", "xn--a.example"])
def test_a_name_that_is_no_valid_punycode_is_resolved_as_it_is(
    host: str, names: dict[str, list[str]]
) -> None:
    """A name with the prefix of an international name that cannot be decoded causes no other error."""
    names[host] = ["127.0.0.1"]
    with serving(HELLO) as (port, requests):
        assert fetch_local(f"http://{host}:{port}/") == b"hello"
    assert f"Host: {host}:{port}\r\n".encode() in requests[0]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve names itself, without the check of addresses."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(HELLO) as (port, _):
        assert fetch_local(f"http://127.0.0.1:{port}/") == b"hello"
