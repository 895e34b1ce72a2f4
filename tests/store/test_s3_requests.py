"""Requests to S3: links, addresses of buckets, how many at once, pages and content types."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from support.faulty_http import FaultProxy
from support.stores import (
    BUCKET,
    LARGE_FLAC,
    STRICT,
    WRITER,
    StoreAddress,
    digest_of,
    new_s3_address,
    plain_client,
    server,
    sidecar_of,
)

from narration.store import Store, open_store
from narration.store.layout import audio_key, manifest_key
from narration.store.s3 import S3ObjectStore
from narration.store.s3_client import s3_client


def test_a_link_is_signed_for_a_limited_time(s3_address: StoreAddress) -> None:
    """It works without credentials and expires after the given seconds, seven days at most."""
    store = s3_address.open()
    key = store.scripts.put(b"words", ".md")
    link = store.link(key, seconds=120)
    query = parse_qs(urlsplit(link).query)
    assert query["X-Amz-Expires"] == ["120"]
    assert WRITER[1] not in link
    with httpx.Client(trust_env=False) as client:
        assert client.get(link).content == b"words"
    assert parse_qs(urlsplit(store.link(key, seconds=10**9)).query)["X-Amz-Expires"] == ["604800"]


def test_a_link_cannot_be_changed_to_another_object() -> None:
    """The signature covers the object's key, on a server that checks."""
    with pytest.MonkeyPatch.context() as patch:
        store = new_s3_address(server(STRICT), patch).open()
        one, two = store.scripts.put(b"one", ".md"), store.scripts.put(b"two", ".md")
        with httpx.Client(trust_env=False) as client:
            assert client.get(store.link(one).replace(one, two)).status_code == 403


def test_buckets_on_other_servers_are_addressed_by_path(proxy: FaultProxy, store_behind_proxy: Store) -> None:
    """Servers other than AWS rarely have a host name for each bucket."""
    store_behind_proxy.scripts.put(b"words", ".md")
    assert proxy.requests[0][1].startswith(f"/{BUCKET}/tests/")


def test_a_store_may_be_a_whole_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a prefix, keys start at the bucket's root."""
    new_s3_address(endpoint, monkeypatch)
    client = plain_client(endpoint)
    client.create_bucket(Bucket="whole")
    store = open_store("s3://whole")
    store.manifests.replace("intro", b"{}", if_match=None)
    assert store.locate(manifest_key("intro")) == "s3://whole/narrations/intro/manifest.json"
    assert client.get_object(Bucket="whole", Key=manifest_key("intro"))["Body"].read() == b"{}"
    assert open_store("s3://whole/").manifests.ids() == ["intro"]
    client.delete_object(Bucket="whole", Key=manifest_key("intro"))
    client.delete_bucket(Bucket="whole")


def test_stores_in_one_bucket_do_not_see_each_other(s3_address: StoreAddress) -> None:
    """A prefix ends at its slash: `tests/1` is not `tests/10`."""
    open_store(f"{s3_address.url}0").manifests.replace("theirs", b"{}", if_match=None)
    s3_address.open().manifests.replace("ours", b"{}", if_match=None)
    assert s3_address.open().manifests.ids() == ["ours"]


def test_finding_clips_takes_few_requests_many_at_once(proxy: FaultProxy, store_behind_proxy: Store) -> None:
    """A missing clip costs one request, a stored one two, and over 32 are in flight together."""
    stored = [digest_of(f"stored {n}") for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda digest: store_behind_proxy.clips.put(digest, b"fLaC", sidecar_of(digest, b"fLaC")),
                stored,
            )
        )
    missing = [digest_of(f"missing {n}") for n in range(80)]
    proxy.requests.clear()
    proxy.most_at_once, proxy.delay = 0, 0.5
    assert set(store_behind_proxy.clips.find_many([*missing, *stored, *missing])) == set(stored)
    assert len(proxy.requests) == 80 + 2 * 40
    assert proxy.most_at_once > 32


def test_a_listing_of_several_pages_is_complete(
    s3_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More objects than one answer contains are all listed."""
    client = s3_client()
    get_paginator = client.get_paginator

    class PagesOfThree:
        def __init__(self, name: str) -> None:
            self._paginator = get_paginator(name)  # type: ignore[call-overload]  # of any operation

        def paginate(self, **arguments: object) -> object:
            return self._paginator.paginate(**arguments, PaginationConfig={"PageSize": 3})

    monkeypatch.setattr(client, "get_paginator", PagesOfThree)
    store = Store(S3ObjectStore(client, BUCKET, s3_address.prefix))
    keys = {store.scripts.put(str(n).encode(), ".md") for n in range(7)}
    assert {info.key for info in store.all_objects.list("scripts/")} == keys


def test_objects_have_content_types(s3_address: StoreAddress) -> None:
    """A browser plays a clip and shows a manifest."""
    store = s3_address.open()
    digest = digest_of("typed")
    store.clips.put(digest, LARGE_FLAC, sidecar_of(digest, LARGE_FLAC))
    store.manifests.replace("intro", b"{}", if_match=None)
    client, prefix = s3_address.client(), s3_address.prefix
    types = {
        key: client.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["ContentType"]
        for key in (audio_key(digest), manifest_key("intro"))
    }
    assert types == {audio_key(digest): "audio/flac", manifest_key("intro"): "application/json"}
