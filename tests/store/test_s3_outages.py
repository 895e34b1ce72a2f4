"""Outages of an S3 server, damaged transfers, and objects that other programs wrote."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.faulty_http import (
    Fault,
    FaultProxy,
    alter_download,
    cut_download,
    cut_upload,
    lose_answer,
    never_answer,
    s3_error,
)
from support.stores import BUCKET, LARGE_FLAC, StoreAddress, digest_of, new_s3_address, sidecar_of

from narration.errors import Damaged, StoreUnavailable
from narration.store import ObjectStore, Store, open_store, s3_client


@pytest.mark.parametrize(
    "fault",
    [
        s3_error(500, "InternalError"),
        s3_error(503, "SlowDown"),
        s3_error(503, "ServiceUnavailable"),
        s3_error(429, "TooManyRequests"),
        cut_upload,
        lose_answer,
    ],
    ids=["500", "503-SlowDown", "503", "429", "cut-upload", "lost-answer"],
)
def test_a_transient_error_is_retried(proxy: FaultProxy, store_behind_proxy: Store, fault: Fault) -> None:
    """After two errors the clip is stored, intact."""
    digest = digest_of("retried")
    proxy.faults.extend([None, fault, fault, None, fault])
    clip = store_behind_proxy.clips.put(digest, LARGE_FLAC, sidecar_of(digest, LARGE_FLAC))
    assert store_behind_proxy.clips.read(clip) == LARGE_FLAC


@pytest.mark.parametrize(
    "fault",
    [s3_error(500, "InternalError"), s3_error(503, "SlowDown"), s3_error(502, "OfAProxyBetween"), cut_upload],
    ids=["500", "503", "502", "cut"],
)
def test_a_lasting_outage_is_unavailable(proxy: FaultProxy, store_behind_proxy: Store, fault: Fault) -> None:
    """After a limited number of attempts the error says that trying again may help."""
    proxy.default_fault = fault
    with pytest.raises(StoreUnavailable) as outage:
        store_behind_proxy.scripts.put(b"words" * 1000, ".md")
    assert outage.value.retryable
    assert len(proxy.requests) == s3_client.ATTEMPTS
    proxy.default_fault = None
    store_behind_proxy.scripts.put(b"words" * 1000, ".md")


def test_a_server_that_does_not_answer_is_unavailable(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request without an answer ends after the read timeout."""
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.3)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    store = open_store(new_s3_address(proxy.endpoint, monkeypatch).url)
    proxy.default_fault = never_answer
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="no answer"):
        store.manifests.ids()
    assert time.monotonic() - began < 5


def test_a_refused_connection_is_unavailable_and_names_the_store(
    proxy: FaultProxy, store_behind_proxy: Store
) -> None:
    """The message names the store, the remedy the setting to check."""
    proxy.close()
    with pytest.raises(StoreUnavailable, match=f"s3://{BUCKET}/.*no answer") as outage:
        store_behind_proxy.check_writable()
    assert "AWS_ENDPOINT_URL" in outage.value.remedy


@pytest.mark.parametrize("fault", [cut_download, alter_download], ids=["cut", "altered"])
def test_a_damaged_download_is_repeated(
    proxy: FaultProxy,
    objects_behind_proxy: ObjectStore,
    store_behind_proxy: Store,
    fault: Fault,
    tmp_path: Path,
) -> None:
    """A download that was cut off or altered on its way is read again and then returned intact."""
    key = store_behind_proxy.scripts.put(LARGE_FLAC, ".md")
    proxy.faults.extend([None, fault])  # the size, then the bytes
    assert store_behind_proxy.scripts.read(key) == LARGE_FLAC
    proxy.faults.append(fault)
    objects_behind_proxy.get_file(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == LARGE_FLAC


def test_an_object_altered_by_another_program_is_damaged(s3_address: StoreAddress, tmp_path: Path) -> None:
    """Bytes that fail the SHA-256 in the object's metadata are never returned, and no file is left."""
    objects = s3_address.open_objects()
    store = Store(objects)
    key = store.scripts.put(LARGE_FLAC, ".md")
    key_in_bucket = f"{s3_address.prefix}/{key}"
    client = s3_address.client()
    head = client.head_object(Bucket=BUCKET, Key=key_in_bucket)
    altered = LARGE_FLAC[:-1] + b"x"
    client.put_object(Bucket=BUCKET, Key=key_in_bucket, Body=altered, Metadata=head["Metadata"])
    with pytest.raises(Damaged, match="SHA-256"):
        store.scripts.read(key)
    with pytest.raises(Damaged, match="SHA-256"):
        objects.get_file(key, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_objects_of_other_programs_are_read(s3_address: StoreAddress) -> None:
    """A script that a person uploads has no SHA-256 in its metadata and is read all the same."""
    objects = s3_address.open_objects()
    store = Store(objects)
    prefix = s3_address.prefix
    client = s3_address.client()
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/inbox/", Body=b"")  # what a console makes as a folder
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/inbox/Kapitel 1 über.md", Body=b"words")
    assert [info.key for info in store.scripts.list_inbox()] == ["inbox/Kapitel 1 über.md"]
    assert store.scripts.read("inbox/Kapitel 1 über.md") == b"words"
    assert objects.sha256("inbox/Kapitel 1 über.md") == digest_of("words")
