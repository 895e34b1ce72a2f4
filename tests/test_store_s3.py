"""S3 as it is in the field: other servers, wrong keys, outages, cut connections, many reads at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from support.faulty_http import (
    SECRET,
    Fault,
    FaultProxy,
    Forward,
    Handler,
    cut_download,
    cut_upload,
    flip,
    lose_answer,
    stall,
    status,
)
from support.stores import (
    BUCKET,
    READER,
    SERVERS,
    STRICT,
    WRITER,
    Place,
    digest_of,
    plain_client,
    s3_place,
    server,
    sidecar_of,
)

from narration.errors import Damaged, ManifestConflict, SettingsError, StoreRefused, StoreUnavailable
from narration.store import Store, open_store, s3, s3_client
from narration.store.layout import audio_key, manifest_key

FLAC = b"fLaC" + bytes(range(256)) * 2_000
BIG = 36_000_000  # bytes: three parts of an upload


@pytest.fixture(params=SERVERS)
def endpoint(request: pytest.FixtureRequest) -> str:
    """Each S3 server in turn."""
    return server(request.param)


@pytest.fixture
def place(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty prefix on each server in turn."""
    return s3_place(endpoint, monkeypatch)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Trouble before SeaweedFS; `proxied` is the store behind it. Backoff is short."""
    from botocore.retries import standard

    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.01)
    trouble = FaultProxy(server(STRICT))
    yield trouble
    trouble.close()


@pytest.fixture
def proxied(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store that is reached through the proxy."""
    return s3_place(proxy.endpoint, monkeypatch).open()


def _prefix(url: str) -> str:
    return url.removeprefix(f"s3://{BUCKET}/")


def methods(proxy: FaultProxy) -> list[str]:
    """The methods of the requests so far."""
    return [method for method, _ in proxy.seen]


# Refusals


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
    """Both for writing and for reading, not taken for an empty store."""
    store = s3_place(endpoint, monkeypatch, bucket="no-such-bucket").open()
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
def test_each_kind_of_wrong_key_is_told_apart(
    keys: tuple[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of a server that checks: the message says which it is and names no key."""
    refusal = _refusal(s3_place(server(STRICT), monkeypatch, keys).open())
    assert words in str(refusal)
    assert keys[0] not in str(refusal)
    assert keys[1] not in str(refusal)


def test_a_reader_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that may not write can still plan."""
    endpoint = server(STRICT)
    place = s3_place(endpoint, monkeypatch)
    place.open().clips.put(digest_of("x"), FLAC, sidecar_of(digest_of("x"), FLAC))
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True):
        monkeypatch.setenv(name, value)
    assert set(open_store(place.url).clips.find_many([digest_of("x"), digest_of("y")])) == {digest_of("x")}


def test_no_credentials_at_all_are_a_refusal(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names the variables to set."""
    place = s3_place(endpoint, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_ACCESS_KEY_ID" in _refusal(open_store(place.url)).remedy


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
def test_what_a_server_refuses_is_explained(
    proxy: FaultProxy, proxied: Store, code: int, s3_code: str, words: str
) -> None:
    """Each code has its own words and remedy; the server's text, which may hold anything, is left out."""
    proxy.always = status(code, s3_code)
    assert words in str(_refusal(proxied))
    assert "\n" not in str(_refusal(proxied))


def test_another_region_is_named(proxy: FaultProxy, proxied: Store) -> None:
    """The server says which region the bucket is in, and so does the message."""
    proxy.always = status(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    refusal = _refusal(proxied)
    assert "eu-west-3" in str(refusal)
    assert "AWS_REGION" in refusal.remedy


def test_credentials_that_expire_in_the_middle_are_a_refusal(proxy: FaultProxy, proxied: Store) -> None:
    """Between audio and sidecar: the clip is not there, and nothing was retried in vain."""
    digest = digest_of("expires")
    proxy.faults.extend([None, None, status(400, "ExpiredToken")])  # no clip yet, audio, sidecar
    with pytest.raises(StoreRefused, match="expired"):
        proxied.clips.put(digest, FLAC, sidecar_of(digest, FLAC))
    assert len(proxy.seen) == 3
    assert proxied.clips.find(digest) is None


@pytest.mark.parametrize(("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "no url")])
def test_settings_that_boto3_cannot_read_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A typo in the environment is a setting to mend, not a traceback."""
    place = s3_place("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="AWS settings cannot be used"):
        open_store(place.url)


@pytest.mark.parametrize(
    ("named", "region"),
    [
        ({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-north-1"}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1"),
        ({}, "us-east-1"),
    ],
)
def test_the_region_is_the_environments(
    named: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By both of the names that Amazon's tools use, of which boto3 knows one."""
    place = s3_place("http://127.0.0.1:9", monkeypatch)
    monkeypatch.delenv("AWS_REGION")
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    link = open_store(place.url).link("scripts/x.md")
    assert f"/{region}/s3/aws4_request" in parse_qs(urlsplit(link).query)["X-Amz-Credential"][0]


# Outages


@pytest.mark.parametrize(
    "fault",
    [
        status(500, "InternalError"),
        status(503, "SlowDown"),
        status(503, "ServiceUnavailable"),
        status(429, "TooManyRequests"),
        cut_upload,
        lose_answer,
    ],
    ids=["500", "503-SlowDown", "503", "429", "cut-upload", "lost-answer"],
)
def test_a_passing_trouble_is_passed_over(proxy: FaultProxy, proxied: Store, fault: Fault) -> None:
    """Twice in trouble, then well: the clip is stored, whole."""
    digest = digest_of("trouble")
    proxy.faults.extend([None, fault, fault, None, fault])
    clip = proxied.clips.put(digest, FLAC, sidecar_of(digest, FLAC))
    assert proxied.clips.read(clip) == FLAC


@pytest.mark.parametrize(
    "fault",
    [status(500, "InternalError"), status(503, "SlowDown"), status(502, "OfAProxyBetween"), cut_upload],
    ids=["500", "503", "502", "cut"],
)
def test_a_lasting_outage_is_worth_another_try_later(proxy: FaultProxy, proxied: Store, fault: Fault) -> None:
    """After a bounded number of attempts the failure says that trying again helps."""
    proxy.always = fault
    with pytest.raises(StoreUnavailable) as outage:
        proxied.scripts.put(b"words" * 1000, ".md")
    assert outage.value.retryable
    assert len(proxy.seen) == s3_client.ATTEMPTS
    proxy.always = None
    proxied.scripts.put(b"words" * 1000, ".md")


def test_a_server_that_says_nothing_is_given_up(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts as an outage."""
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.3)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    store = open_store(s3_place(proxy.endpoint, monkeypatch).url)
    proxy.always = stall
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="no answer"):
        store.manifests.ids()
    assert time.monotonic() - began < 5


def test_no_server_is_an_outage_that_names_the_store(proxy: FaultProxy, proxied: Store) -> None:
    """A refused connection: the store by name, and what to check."""
    proxy.close()
    with pytest.raises(StoreUnavailable, match=f"s3://{BUCKET}/.*no answer") as outage:
        proxied.check_writable()
    assert "AWS_ENDPOINT_URL" in outage.value.remedy


@pytest.mark.parametrize("fault", [cut_download, flip], ids=["cut", "flipped"])
def test_a_spoilt_download_is_read_again(
    proxy: FaultProxy, proxied: Store, fault: Fault, tmp_path: Path
) -> None:
    """Half an answer, or one altered on its way, is not what was stored; the next reading is."""
    key = proxied.scripts.put(FLAC, ".md")
    proxy.faults.extend([None, fault])  # the size, then the bytes
    assert proxied.scripts.read(key) == FLAC
    proxy.faults.append(fault)
    proxied._objects.get_file(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == FLAC


def test_an_object_altered_behind_our_back_is_damage(place: Place, tmp_path: Path) -> None:
    """Bytes under our SHA-256 that are not its own: never returned, and no half file."""
    store = place.open()
    key = store.scripts.put(FLAC, ".md")
    prefix = _prefix(place.url)
    client = plain_client(place.env["AWS_ENDPOINT_URL"])
    told = client.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")
    altered = FLAC[:-1] + b"x"
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=altered, Metadata=told["Metadata"])
    with pytest.raises(Damaged, match="SHA-256"):
        store.scripts.read(key)
    with pytest.raises(Damaged, match="SHA-256"):
        store._objects.get_file(key, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_objects_of_other_programs_are_read(place: Place) -> None:
    """A script that a person uploads carries no SHA-256 of ours, and is a script all the same."""
    store = place.open()
    prefix = _prefix(place.url)
    client = plain_client(place.env["AWS_ENDPOINT_URL"])
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/inbox/", Body=b"")  # what a console makes as a folder
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/inbox/Kapitel 1 über.md", Body=b"words")
    assert [info.key for info in store.scripts.list_inbox()] == ["inbox/Kapitel 1 über.md"]
    assert store.scripts.read("inbox/Kapitel 1 über.md") == b"words"
    assert store._objects.sha256("inbox/Kapitel 1 über.md") == digest_of("words")


# Conditions


@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
def test_our_own_write_is_no_lost_race(proxy: FaultProxy, proxied: Store, first: bool) -> None:
    """The answer to a manifest's write is lost, botocore sends it again and is refused: it was ours."""
    etag = None if first else proxied.manifests.replace("intro", b"1", if_match=None)
    proxy.faults.extend([None, lose_answer])  # a look at what is there, the write
    new = proxied.manifests.replace("intro", b"2", if_match=etag)
    assert methods(proxy)[-4:] == ["HEAD", "PUT", "PUT", "HEAD"]
    assert proxied.manifests.read("intro") == (b"2", new)


def test_another_ones_write_in_between_is_a_lost_race(proxy: FaultProxy, proxied: Store) -> None:
    """The same, but somebody else wrote in the meantime."""
    other = Store(s3.S3ObjectStore(plain_client(server(STRICT)), BUCKET, _prefix(proxied.location)))
    etag = proxied.manifests.replace("intro", b"1", if_match=None)

    def other_writes(handler: Handler, forward: Forward) -> None:
        other.manifests.replace("intro", b"theirs", if_match=etag)
        cut_upload(handler, forward)

    proxy.faults.extend([None, other_writes])
    with pytest.raises(ManifestConflict):
        proxied.manifests.replace("intro", b"ours", if_match=etag)
    stored = proxied.manifests.read("intro")
    assert stored is not None
    assert stored[0] == b"theirs"


def test_the_same_bytes_by_another_are_a_lost_race_too(proxy: FaultProxy, proxied: Store) -> None:
    """Two that read 5 and write 6 made one change, not two: the second is told."""
    other = Store(s3.S3ObjectStore(plain_client(server(STRICT)), BUCKET, _prefix(proxied.location)))
    etag = proxied.manifests.replace("counter", b"5", if_match=None)

    def other_writes(handler: Handler, forward: Forward) -> None:
        other.manifests.replace("counter", b"6", if_match=etag)
        handler.answer(*forward(handler.body()))

    proxy.faults.extend([None, other_writes])
    with pytest.raises(ManifestConflict):
        proxied.manifests.replace("counter", b"6", if_match=etag)


def test_a_torn_server_is_asked_again(proxy: FaultProxy, proxied: Store) -> None:
    """409 says that two writes met, not who won; it is tried again, for a while."""
    torn = status(409, "ConditionalRequestConflict")
    proxy.faults.extend([None, torn, torn])
    etag = proxied.manifests.replace("intro", b"1", if_match=None)
    proxy.faults.append(None)
    proxy.always = torn
    with pytest.raises(StoreUnavailable):
        proxied.manifests.replace("intro", b"2", if_match=etag)


def _ignore_conditions(proxy: FaultProxy) -> None:
    proxy.strip = ("if-match", "if-none-match")


def _know_but_one(proxy: FaultProxy) -> None:
    proxy.strip = ("if-match",)


def _refuse_conditions(proxy: FaultProxy) -> None:
    def refuse(handler: Handler, forward: Forward) -> None:
        if handler.headers.get("If-Match") or handler.headers.get("If-None-Match"):
            status(501, "NotImplemented")(handler, forward)
        else:
            handler.answer(*forward(handler.body()))

    proxy.always = refuse


@pytest.mark.parametrize("ignorance", [_ignore_conditions, _know_but_one, _refuse_conditions])
def test_a_server_without_conditions_serves_one_writer(
    ignorance: Callable[[FaultProxy], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe finds it out, and a manifest that changed since it was read is still not overwritten."""
    proxy = FaultProxy(server("moto"))  # which does not mind that headers it signed for are gone
    store = s3_place(proxy.endpoint, monkeypatch).open()
    assert store.supports_concurrent_writers()
    ignorance(proxy)
    assert not store.supports_concurrent_writers()
    first = store.manifests.replace("intro", b"1", if_match=None)
    second = store.manifests.replace("intro", b"2", if_match=first)
    for stale in (None, first):
        with pytest.raises(ManifestConflict):
            store.manifests.replace("intro", b"3", if_match=stale)
    assert store.manifests.read("intro") == (b"2", second)
    proxy.close()


def test_the_probe_leaves_nothing(place: Place) -> None:
    """Asking whether conditions hold writes a scratch object and takes it away."""
    assert place.open().supports_concurrent_writers()
    prefix = _prefix(place.url)
    listing = plain_client(place.env["AWS_ENDPOINT_URL"]).list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    assert listing["KeyCount"] == 0


# Large files


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A master of half an hour."""
    path = tmp_path_factory.mktemp("big") / "master.wav"
    path.write_bytes(os.urandom(1_000_000) * (BIG // 1_000_000))
    return path


def _uploads(place: Place) -> list[str]:
    listing = plain_client(place.env["AWS_ENDPOINT_URL"]).list_multipart_uploads(Bucket=BUCKET)
    prefix = _prefix(place.url)
    return [upload["Key"] for upload in listing.get("Uploads", []) if upload["Key"].startswith(prefix)]


def test_a_large_file_goes_up_in_parts_and_comes_back(place: Place, big: Path, tmp_path: Path) -> None:
    """Whole, with its type, and without a trace of the parts."""
    store = place.open()
    published = store.files.publish("intro", big, "narration", ".wav", "audio/wav")
    store._objects.get_file(published.key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()
    key = f"{_prefix(place.url)}/{published.key}"
    told = plain_client(place.env["AWS_ENDPOINT_URL"]).head_object(Bucket=BUCKET, Key=key)
    assert told["ContentType"] == "audio/wav"
    assert told["Metadata"] == {"sha256": published.sha256}
    assert _uploads(place) == []


def test_a_part_that_is_cut_is_sent_again(
    proxy: FaultProxy, proxied: Store, big: Path, tmp_path: Path
) -> None:
    """A connection lost in the middle of an upload costs that part, not the file."""
    proxy.faults.extend([None, None, None, cut_upload, None, cut_upload])
    published = proxied.files.publish("intro", big, "narration", ".wav", "audio/wav")
    proxied._objects.get_file(published.key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()


def test_an_upload_that_fails_is_taken_back(
    proxy: FaultProxy, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that expire between two parts: no file, and no parts that are paid for unseen."""
    place = s3_place(proxy.endpoint, monkeypatch)

    def expire(handler: Handler, forward: Forward) -> None:
        if "partNumber=2" in handler.path:
            status(400, "ExpiredToken")(handler, forward)
        else:
            handler.answer(*forward(handler.body()))

    proxy.always = expire
    with pytest.raises(StoreRefused, match="expired"):
        place.open().files.publish("intro", big, "narration", ".wav", "audio/wav")
    proxy.always = None
    assert _uploads(place) == []
    assert not list(place.open()._objects.list("narrations/"))


def test_uploads_of_killed_writers_are_given_back_in_time(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL between two parts leaves no file; a later upload beside it, a day on, clears the parts away."""
    place = s3_place(server(STRICT), monkeypatch)  # moto dates every upload to 2010
    trouble = FaultProxy(place.env["AWS_ENDPOINT_URL"])
    reached, release = threading.Event(), threading.Event()

    def hold_part_two(handler: Handler, forward: Forward) -> None:
        if "partNumber=2" in handler.path:
            reached.set()
            release.wait(30)
        handler.answer(*forward(handler.body()))

    trouble.always = hold_part_two
    code = (
        "import sys; from pathlib import Path; from narration.store import open_store\n"
        "open_store(sys.argv[1]).files.publish('intro', Path(sys.argv[2]), 'narration', '.wav', 'audio/wav')"
    )
    environment = {**os.environ, **place.env, "AWS_ENDPOINT_URL": trouble.endpoint}
    writer = subprocess.Popen([sys.executable, "-c", code, place.url, str(big)], env=environment)
    assert reached.wait(30)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    release.set()
    trouble.close()
    store = place.open()
    assert len(_uploads(place)) == 1
    assert not list(store._objects.list("narrations/"))
    store.files.publish("intro", big, "today", ".wav", "audio/wav")
    assert len(_uploads(place)) == 1  # it could be another writer's, at work this moment
    monkeypatch.setattr(s3, "STALE_UPLOAD", timedelta(seconds=-60))
    store.files.publish("intro", big, "tomorrow", ".wav", "audio/wav")
    assert _uploads(place) == []


# Links, addresses, parallel reads


def test_a_link_is_signed_for_a_while(place: Place) -> None:
    """It works without credentials, says when it ends, and only for the one object."""
    store = place.open()
    key = store.scripts.put(b"words", ".md")
    link = store.link(key, seconds=120)
    query = parse_qs(urlsplit(link).query)
    assert query["X-Amz-Expires"] == ["120"]
    assert WRITER[1] not in link
    with httpx.Client(trust_env=False) as client:
        assert client.get(link).content == b"words"
    assert parse_qs(urlsplit(store.link(key, seconds=10**9)).query)["X-Amz-Expires"] == ["604800"]


def test_a_link_for_another_object_is_refused() -> None:
    """The signature covers the object's name; asked of a server that checks."""
    with pytest.MonkeyPatch.context() as patch:
        store = s3_place(server(STRICT), patch).open()
        one, two = store.scripts.put(b"one", ".md"), store.scripts.put(b"two", ".md")
        with httpx.Client(trust_env=False) as client:
            assert client.get(store.link(one).replace(one, two)).status_code == 403


def test_buckets_at_an_endpoint_of_ones_own_are_addressed_by_path(proxy: FaultProxy, proxied: Store) -> None:
    """Such servers rarely have a name for each bucket."""
    proxied.scripts.put(b"words", ".md")
    assert proxy.seen[0][1].startswith(f"/{BUCKET}/tests/")


def test_the_store_may_be_a_whole_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a prefix, keys start at the bucket's root."""
    s3_place(endpoint, monkeypatch)
    client = plain_client(endpoint)
    client.create_bucket(Bucket="whole")
    store = open_store("s3://whole")
    store.manifests.replace("intro", b"{}", if_match=None)
    assert store.locate(manifest_key("intro")) == "s3://whole/narrations/intro/manifest.json"
    assert client.get_object(Bucket="whole", Key=manifest_key("intro"))["Body"].read() == b"{}"
    assert open_store("s3://whole/").manifests.ids() == ["intro"]
    client.delete_object(Bucket="whole", Key=manifest_key("intro"))
    client.delete_bucket(Bucket="whole")


def test_stores_in_one_bucket_do_not_see_each_other(place: Place) -> None:
    """A prefix ends at its slash: `tests/1` is not `tests/10`."""
    open_store(f"{place.url}0").manifests.replace("theirs", b"{}", if_match=None)
    place.open().manifests.replace("ours", b"{}", if_match=None)
    assert place.open().manifests.ids() == ["ours"]


def test_planning_asks_little_and_much_at_once(proxy: FaultProxy, proxied: Store) -> None:
    """A clip that is missing costs one request, one that is stored two; over 32 are in flight together."""
    stored = [digest_of(f"stored {n}") for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda digest: proxied.clips.put(digest, b"fLaC", sidecar_of(digest, b"fLaC")), stored))
    missing = [digest_of(f"missing {n}") for n in range(80)]
    proxy.seen.clear()
    proxy.peak, proxy.delay = 0, 0.5
    assert set(proxied.clips.find_many([*missing, *stored, *missing])) == set(stored)
    assert len(proxy.seen) == 80 + 2 * 40
    assert proxy.peak > 32


def test_listing_goes_on_over_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """More objects than one answer holds are all listed."""
    store = place.open()
    keys = {store.scripts.put(str(n).encode(), ".md") for n in range(7)}
    objects = store._objects
    assert isinstance(objects, s3.S3ObjectStore)
    pages = objects._client.get_paginator

    class Small:
        def __init__(self, name: str) -> None:
            self._pages = pages(name)  # type: ignore[call-overload]  # any operation's

        def paginate(self, **asked: object) -> object:
            return self._pages.paginate(**asked, PaginationConfig={"PageSize": 3})

    monkeypatch.setattr(objects._client, "get_paginator", Small)
    assert {info.key for info in objects.list("scripts/")} == keys


def test_objects_say_what_they_are(place: Place) -> None:
    """Content types are set, so that a browser plays a clip and shows a manifest."""
    store = place.open()
    digest = digest_of("typed")
    store.clips.put(digest, FLAC, sidecar_of(digest, FLAC))
    store.manifests.replace("intro", b"{}", if_match=None)
    client, prefix = plain_client(place.env["AWS_ENDPOINT_URL"]), _prefix(place.url)
    types = {
        key: client.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["ContentType"]
        for key in (audio_key(digest), manifest_key("intro"))
    }
    assert types == {audio_key(digest): "audio/flac", manifest_key("intro"): "application/json"}
