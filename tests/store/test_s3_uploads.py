"""Uploads of large files to S3 in parts, some of which fail."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from support.faulty_http import FaultProxy, Forward, Handler, cut_upload, s3_error
from support.stores import BUCKET, STRICT, StoreAddress, new_s3_address, server

from narration.errors import StoreRefused
from narration.store import ObjectStore, Store, s3

BIG = 36_000_000  # bytes: three parts of an upload


@pytest.fixture(scope="module")
def half_hour_master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as large as a master of half an hour."""
    path = tmp_path_factory.mktemp("half-hour") / "master.wav"
    path.write_bytes(os.urandom(1_000_000) * (BIG // 1_000_000))
    return path


def unfinished_uploads(s3_address: StoreAddress) -> list[str]:
    listing = s3_address.client().list_multipart_uploads(Bucket=BUCKET)
    keys = [upload["Key"] for upload in listing.get("Uploads", [])]
    return [key for key in keys if key.startswith(s3_address.prefix)]


def test_a_large_file_is_uploaded_in_parts(
    s3_address: StoreAddress, half_hour_master: Path, tmp_path: Path
) -> None:
    """The object has the file's bytes, content type and SHA-256, and no part is left."""
    objects = s3_address.open_objects()
    store = Store(objects)
    published = store.files.publish("intro", half_hour_master, "narration", ".wav", "audio/wav")
    objects.get_file(published.key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == half_hour_master.read_bytes()
    key = f"{s3_address.prefix}/{published.key}"
    head = s3_address.client().head_object(Bucket=BUCKET, Key=key)
    assert head["ContentType"] == "audio/wav"
    assert head["Metadata"] == {"sha256": published.sha256}
    assert unfinished_uploads(s3_address) == []


def test_a_part_that_is_cut_off_is_sent_again(
    proxy: FaultProxy,
    objects_behind_proxy: ObjectStore,
    store_behind_proxy: Store,
    half_hour_master: Path,
    tmp_path: Path,
) -> None:
    """A connection lost during an upload costs one part, not the file."""
    proxy.faults.extend([None, None, None, cut_upload, None, cut_upload])
    published = store_behind_proxy.files.publish("intro", half_hour_master, "narration", ".wav", "audio/wav")
    objects_behind_proxy.get_file(published.key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == half_hour_master.read_bytes()


def test_a_failed_upload_is_aborted(
    proxy: FaultProxy, half_hour_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When credentials expire between two parts, no object and no parts are left."""
    s3_address = new_s3_address(proxy.endpoint, monkeypatch)

    def expire(handler: Handler, forward: Forward) -> None:
        if "partNumber=2" in handler.path:
            s3_error(400, "ExpiredToken")(handler, forward)
        else:
            handler.answer(*forward(handler.body()))

    proxy.default_fault = expire
    with pytest.raises(StoreRefused, match="expired"):
        s3_address.open().files.publish("intro", half_hour_master, "narration", ".wav", "audio/wav")
    proxy.default_fault = None
    assert unfinished_uploads(s3_address) == []
    assert not list(s3_address.open().all_objects.list("narrations/"))


def test_unfinished_uploads_of_killed_writers_are_aborted_after_a_day(
    half_hour_master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer killed between two parts leaves no object, and a later upload beside it aborts its upload."""
    s3_address = new_s3_address(server(STRICT), monkeypatch)  # moto dates every upload to 2010
    proxy = FaultProxy(s3_address.env["AWS_ENDPOINT_URL"])
    reached, release = threading.Event(), threading.Event()

    def hold_part_two(handler: Handler, forward: Forward) -> None:
        if "partNumber=2" in handler.path:
            reached.set()
            release.wait(30)
        handler.answer(*forward(handler.body()))

    proxy.default_fault = hold_part_two
    code = (
        "import sys; from pathlib import Path; from narration.store import open_store\n"
        "open_store(sys.argv[1]).files.publish('intro', Path(sys.argv[2]), 'narration', '.wav', 'audio/wav')"
    )
    environment = {**os.environ, **s3_address.env, "AWS_ENDPOINT_URL": proxy.endpoint}
    writer = subprocess.Popen(
        [sys.executable, "-c", code, s3_address.url, str(half_hour_master)], env=environment
    )
    assert reached.wait(30)
    writer.kill()
    writer.wait()
    release.set()
    proxy.close()
    store = s3_address.open()
    assert len(unfinished_uploads(s3_address)) == 1
    assert not list(store.all_objects.list("narrations/"))
    store.files.publish("intro", half_hour_master, "today", ".wav", "audio/wav")
    assert len(unfinished_uploads(s3_address)) == 1  # it could belong to a writer that is still running
    monkeypatch.setattr(s3, "STALE_UPLOAD", timedelta(seconds=-60))
    store.files.publish("intro", half_hour_master, "tomorrow", ".wav", "audio/wav")
    assert unfinished_uploads(s3_address) == []
