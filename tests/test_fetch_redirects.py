"""Redirects and TLS of a download: each redirect is checked, https stays https, names match certificates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.downloads import HELLO, fetch_local, redirect_to, resolve_names, route_to_loopback, serving

from narration.fetch import FetchRefused


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses that host names resolve to."""
    return resolve_names(monkeypatch)


def test_each_redirect_is_checked(names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect from a public host to a private one is not followed."""
    names["public.example"] = ["8.8.8.8"]
    route_to_loopback(monkeypatch, "8.8.8.8")
    with (
        serving(HELLO) as (private_port, private_requests),
        serving(redirect_to(f"http://127.0.0.1:{private_port}/")) as (port, requests),
    ):
        with pytest.raises(FetchRefused, match=f"127.0.0.1:{private_port}/: is not at a public address"):
            fetch_local(f"http://public.example:{port}/", allow_private=False)
        assert len(requests) == 1
        assert private_requests == []


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://example.com/", "http://u:p@example.com/", "http://xn--a/"],
)
def test_a_redirect_to_anything_but_an_http_url_is_refused(location: str) -> None:
    """A redirect to another scheme, to a URL with a password, or to an invalid host is not followed."""
    with serving(redirect_to(location)) as (port, _), pytest.raises(FetchRefused):
        fetch_local(f"http://127.0.0.1:{port}/")


def test_a_relative_redirect_is_followed() -> None:
    """A redirect within the host leads to the file."""
    moved = redirect_to("/there?x=1", status="307 Temporary Redirect")
    with serving(moved, HELLO) as (port, requests):
        assert fetch_local(f"http://127.0.0.1:{port}/here") == b"hello"
    assert requests[1].startswith(b"GET /there?x=1 ")


def test_five_redirects_are_followed_at_most() -> None:
    """A loop of redirects ends after the fifth, and cookies are never sent back."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\n\r\n"
    with (
        serving(*[moved] * 9) as (port, requests),
        pytest.raises(FetchRefused, match="more than 5 redirects"),
    ):
        fetch_local(f"http://127.0.0.1:{port}/")
    assert len(requests) == 6
    assert not any(b"Cookie:" in request for request in requests)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and key for voices.example, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voices.example")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("voices.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "voices.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_must_be_the_hosts_though_the_connection_goes_to_an_address(
    certificate: Path, names: dict[str, list[str]]
) -> None:
    """An unknown authority and another host's certificate are refused, and SNI names the host."""
    names["voices.example"] = names["other.example"] = ["127.0.0.1"]
    server_context = _server_context(certificate)
    server_names: list[str | None] = []
    server_context.sni_callback = lambda _socket, name, _context: server_names.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with serving(HELLO, HELLO, HELLO, tls=server_context) as (port, _):
        with pytest.raises(FetchRefused, match="certificate"):
            fetch_local(f"https://voices.example:{port}/")
        assert fetch_local(f"https://voices.example:{port}/", tls_context=trusting) == b"hello"
        with pytest.raises(FetchRefused, match="certificate"):
            fetch_local(f"https://other.example:{port}/", tls_context=trusting)
    assert server_names == ["voices.example", "voices.example", "other.example"]


def test_a_redirect_from_https_to_http_is_refused(certificate: Path, names: dict[str, list[str]]) -> None:
    """A file that was requested over https is not fetched without it."""
    names["voices.example"] = ["127.0.0.1"]
    trusting = ssl.create_default_context(cafile=str(certificate))
    with serving(HELLO) as (http_port, http_requests):
        moved = redirect_to(f"http://127.0.0.1:{http_port}/")
        with (
            serving(moved, tls=_server_context(certificate)) as (port, _),
            pytest.raises(FetchRefused, match="without https"),
        ):
            fetch_local(f"https://voices.example:{port}/", tls_context=trusting)
        assert http_requests == []
