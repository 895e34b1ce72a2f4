"""Conditional writes to S3: lost answers, other writers, and servers that do not know conditions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.faulty_http import FaultProxy, Forward, Handler, cut_upload, lose_answer, s3_error
from support.stores import BUCKET, STRICT, StoreAddress, new_s3_address, plain_client, server

from narration.errors import ManifestConflict, StoreUnavailable
from narration.store import Store
from narration.store.s3 import S3ObjectStore


def methods(proxy: FaultProxy) -> list[str]:
    """The methods of the requests so far."""
    return [method for method, _ in proxy.requests]


@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
def test_a_repeated_write_is_recognized_as_our_own(
    proxy: FaultProxy, store_behind_proxy: Store, first: bool
) -> None:
    """When the answer to a manifest's write is lost, botocore repeats it and is refused; the write counts."""
    etag = None if first else store_behind_proxy.manifests.replace("intro", b"1", if_match=None)
    proxy.faults.extend([None, lose_answer])  # the reading of the current etag, the write
    new = store_behind_proxy.manifests.replace("intro", b"2", if_match=etag)
    assert methods(proxy)[-4:] == ["HEAD", "PUT", "PUT", "HEAD"]
    assert store_behind_proxy.manifests.read("intro") == (b"2", new)


def _other_writer(store: Store) -> Store:
    """The same store, reached without the proxy."""
    prefix = store.location.removeprefix(f"s3://{BUCKET}/")
    return Store(S3ObjectStore(plain_client(server(STRICT)), BUCKET, prefix))


def test_another_writers_write_in_between_is_a_conflict(proxy: FaultProxy, store_behind_proxy: Store) -> None:
    """A repeated write that is refused since another writer wrote raises `ManifestConflict`."""
    other = _other_writer(store_behind_proxy)
    etag = store_behind_proxy.manifests.replace("intro", b"1", if_match=None)

    def other_writes(handler: Handler, forward: Forward) -> None:
        other.manifests.replace("intro", b"theirs", if_match=etag)
        cut_upload(handler, forward)

    proxy.faults.extend([None, other_writes])
    with pytest.raises(ManifestConflict):
        store_behind_proxy.manifests.replace("intro", b"ours", if_match=etag)
    stored = store_behind_proxy.manifests.read("intro")
    assert stored is not None
    assert stored.data == b"theirs"


def test_the_same_bytes_of_another_writer_are_a_conflict_too(
    proxy: FaultProxy, store_behind_proxy: Store
) -> None:
    """Two writers that both count from 5 to 6 made one change, so the second gets a `ManifestConflict`."""
    other = _other_writer(store_behind_proxy)
    etag = store_behind_proxy.manifests.replace("counter", b"5", if_match=None)

    def other_writes(handler: Handler, forward: Forward) -> None:
        other.manifests.replace("counter", b"6", if_match=etag)
        handler.answer(*forward(handler.body()))

    proxy.faults.extend([None, other_writes])
    with pytest.raises(ManifestConflict):
        store_behind_proxy.manifests.replace("counter", b"6", if_match=etag)


def test_a_409_answer_is_retried(proxy: FaultProxy, store_behind_proxy: Store) -> None:
    """409 says that two writes met, not which one succeeded; it is retried a limited number of times."""
    conflict = s3_error(409, "ConditionalRequestConflict")
    proxy.faults.extend([None, conflict, conflict])
    etag = store_behind_proxy.manifests.replace("intro", b"1", if_match=None)
    proxy.faults.append(None)
    proxy.default_fault = conflict
    with pytest.raises(StoreUnavailable):
        store_behind_proxy.manifests.replace("intro", b"2", if_match=etag)


def _ignore_conditions(proxy: FaultProxy) -> None:
    proxy.dropped_headers = ("if-match", "if-none-match")


def _ignore_if_match(proxy: FaultProxy) -> None:
    proxy.dropped_headers = ("if-match",)


def _refuse_conditions(proxy: FaultProxy) -> None:
    def refuse(handler: Handler, forward: Forward) -> None:
        if handler.headers.get("If-Match") or handler.headers.get("If-None-Match"):
            s3_error(501, "NotImplemented")(handler, forward)
        else:
            handler.answer(*forward(handler.body()))

    proxy.default_fault = refuse


@pytest.mark.parametrize("limit_server", [_ignore_conditions, _ignore_if_match, _refuse_conditions])
def test_a_server_without_conditions_serves_one_writer(
    limit_server: Callable[[FaultProxy], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store reports it, and a manifest that changed since it was read is still not overwritten."""
    proxy = FaultProxy(server("moto"))  # does not check the signature of the dropped headers
    store = new_s3_address(proxy.endpoint, monkeypatch).open()
    assert store.supports_concurrent_writers()
    limit_server(proxy)
    assert not store.supports_concurrent_writers()
    first = store.manifests.replace("intro", b"1", if_match=None)
    second = store.manifests.replace("intro", b"2", if_match=first)
    for stale in (None, first):
        with pytest.raises(ManifestConflict):
            store.manifests.replace("intro", b"3", if_match=stale)
    assert store.manifests.read("intro") == (b"2", second)
    proxy.close()


def test_testing_for_conditions_leaves_no_object(s3_address: StoreAddress) -> None:
    """The scratch object is deleted."""
    assert s3_address.open().supports_concurrent_writers()
    listing = s3_address.client().list_objects_v2(Bucket=BUCKET, Prefix=s3_address.prefix)
    assert listing["KeyCount"] == 0
