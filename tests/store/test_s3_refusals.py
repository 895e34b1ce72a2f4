"""What an S3 server refuses, or boto3 cannot be set up for: each has its own message and remedy."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from support.faulty_http import SECRET, FaultProxy, s3_error
from support.stores import LARGE_FLAC, READER, STRICT, WRITER, digest_of, new_s3_address, server, sidecar_of

from narration.errors import SettingsError, StoreRefused
from narration.store import Store, open_store


def _refusal(store: Store) -> StoreRefused:
    with pytest.raises(StoreRefused) as refusal:
        store.check_writable()
    text = f"{refusal.value!r} {refusal.value}"
    for secret in (*WRITER, *READER, SECRET):
        assert secret not in text
    assert refusal.value.remedy
    assert refusal.value.__cause__ is None
    return refusal.value


def test_a_bucket_that_does_not_exist_is_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing and reading both raise `StoreRefused`; the bucket is not taken for an empty store."""
    store = new_s3_address(endpoint, monkeypatch, bucket="no-such-bucket").open()
    refusal = _refusal(store)
    assert "s3://no-such-bucket" in str(refusal)
    assert "the bucket does not exist" in str(refusal)
    with pytest.raises(StoreRefused, match="does not exist"):
        store.clips.find_many([digest_of("x")])
    with pytest.raises(StoreRefused, match="does not exist"):
        store.manifests.ids()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("NOBODYSKEY000", WRITER[1]), "access key id is unknown"),
        ((WRITER[0], "not-the-secret"), "secret key does not belong"),
        (READER, "access is denied"),
    ],
)
def test_each_kind_of_wrong_credentials_has_its_own_message(
    keys: tuple[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which part is wrong, on a server that checks, and contains no key."""
    refusal = _refusal(new_s3_address(server(STRICT), monkeypatch, keys).open())
    assert words in str(refusal)
    assert keys[0] not in str(refusal)
    assert keys[1] not in str(refusal)


def test_read_only_credentials_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that may not write are enough for planning."""
    endpoint = server(STRICT)
    s3_address = new_s3_address(endpoint, monkeypatch)
    s3_address.open().clips.put(digest_of("x"), LARGE_FLAC, sidecar_of(digest_of("x"), LARGE_FLAC))
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True):
        monkeypatch.setenv(name, value)
    assert set(open_store(s3_address.url).clips.find_many([digest_of("x"), digest_of("y")])) == {
        digest_of("x")
    }


def test_missing_credentials_are_a_refusal(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names the variables to set."""
    s3_address = new_s3_address(endpoint, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_ACCESS_KEY_ID" in _refusal(open_store(s3_address.url)).remedy


@pytest.mark.parametrize(
    ("code", "s3_code", "words"),
    [
        (400, "ExpiredToken", "credentials have expired"),
        (400, "InvalidToken", "session token is not valid"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (301, "PermanentRedirect", "another region"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (403, "QuotaExceeded", "no room left"),
        (507, "XMinioStorageFull", "no room left"),
        (403, "AllAccessDisabled", "access is denied"),
        (418, "Teapot\n{}", "418 Teapot"),
    ],
)
def test_each_error_code_of_a_server_is_explained(
    proxy: FaultProxy, store_behind_proxy: Store, code: int, s3_code: str, words: str
) -> None:
    """Each code has its own words and remedy; the server's text is left out, since it may contain secrets."""
    proxy.default_fault = s3_error(code, s3_code)
    assert words in str(_refusal(store_behind_proxy))
    assert "\n" not in str(_refusal(store_behind_proxy))


def test_another_region_is_named(proxy: FaultProxy, store_behind_proxy: Store) -> None:
    """The message names the region that the server says the bucket is in."""
    proxy.default_fault = s3_error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    refusal = _refusal(store_behind_proxy)
    assert "eu-west-3" in str(refusal)
    assert "AWS_REGION" in refusal.remedy


def test_credentials_that_expire_between_two_writes_are_a_refusal(
    proxy: FaultProxy, store_behind_proxy: Store
) -> None:
    """Between audio and sidecar: the clip is not stored, and no request is repeated."""
    digest = digest_of("expires")
    proxy.faults.extend([None, None, s3_error(400, "ExpiredToken")])  # no clip yet, audio, sidecar
    with pytest.raises(StoreRefused, match="expired"):
        store_behind_proxy.clips.put(digest, LARGE_FLAC, sidecar_of(digest, LARGE_FLAC))
    assert len(proxy.requests) == 3
    assert store_behind_proxy.clips.find(digest) is None


@pytest.mark.parametrize(("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "no url")])
def test_settings_that_boto3_cannot_read_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A typo in the environment raises `SettingsError`."""
    s3_address = new_s3_address("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="AWS settings cannot be used"):
        open_store(s3_address.url)


@pytest.mark.parametrize(
    ("named", "region"),
    [
        ({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-north-1"}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1"),
        ({}, "us-east-1"),
    ],
)
def test_the_region_is_taken_from_the_environment(
    named: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both names that Amazon's tools use are read, of which boto3 knows one."""
    s3_address = new_s3_address("http://127.0.0.1:9", monkeypatch)
    monkeypatch.delenv("AWS_REGION")
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    link = open_store(s3_address.url).link("scripts/x.md")
    assert f"/{region}/s3/aws4_request" in parse_qs(urlsplit(link).query)["X-Amz-Credential"][0]
