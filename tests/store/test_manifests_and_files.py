"""Manifests and published files of narrations, in a folder and in S3."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from narration.errors import Damaged, ManifestConflict
from narration.store import ObjectStore, Store
from narration.store.layout import manifest_key


def test_a_manifest_is_replaced_only_if_unchanged(store: Store) -> None:
    """The first is written where there is none, each next one over the version that was read."""
    assert store.manifests.read("intro") is None
    first = store.manifests.replace("intro", b"1", if_match=None)
    assert store.manifests.read("intro") == (b"1", first)
    with pytest.raises(ManifestConflict) as conflict:
        store.manifests.replace("intro", b"other", if_match=None)
    assert conflict.value.retryable
    second = store.manifests.replace("intro", b"2", if_match=first)
    with pytest.raises(ManifestConflict):
        store.manifests.replace("intro", b"other", if_match=first)
    assert store.manifests.read("intro") == (b"2", second)


def test_a_deleted_manifest_is_not_replaced(store: Store, objects: ObjectStore) -> None:
    """Writing over the etag of a deleted manifest raises `ManifestConflict`."""
    etag = store.manifests.replace("intro", b"1", if_match=None)
    objects.delete(manifest_key("intro"))
    with pytest.raises(ManifestConflict):
        store.manifests.replace("intro", b"2", if_match=etag)
    assert store.manifests.read("intro") is None


def test_narrations_are_listed_by_their_manifests(store: Store, tmp_path: Path) -> None:
    """A narration that has files but no manifest is not listed."""
    assert store.manifests.ids() == []
    file = tmp_path / "a.srt"
    file.write_bytes(b"1")
    store.files.publish("unpublished", file, "captions", ".srt", "application/x-subrip")
    for name in ("b", "a"):
        store.manifests.replace(name, b"{}", if_match=None)
    assert store.manifests.ids() == ["a", "b"]


def test_a_published_file_is_named_by_its_content(store: Store, objects: ObjectStore, tmp_path: Path) -> None:
    """Other content has another name; the same content is not written again within the hour."""
    source = tmp_path / "master.mp3"
    source.write_bytes(b"one")
    one = store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    assert one.key == f"narrations/intro/narration-{hashlib.sha256(b'one').hexdigest()[:16]}.mp3"
    assert (one.sha256, one.size) == (hashlib.sha256(b"one").hexdigest(), 3)
    before = objects.head(one.key)
    time.sleep(1.1)  # S3 reports times in whole seconds
    assert store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg") == one
    assert objects.head(one.key) == before
    source.write_bytes(b"two")
    two = store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    assert two.key != one.key
    copy = tmp_path / "copy"
    objects.get_file(one.key, copy)
    assert copy.read_bytes() == b"one"


def test_publishing_repairs_an_altered_file(store: Store, objects: ObjectStore, tmp_path: Path) -> None:
    """A file whose bytes no longer match its name is written again."""
    source = tmp_path / "master.mp3"
    source.write_bytes(b"one")
    published = store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    objects.put(published.key, b"bad", content_type="audio/mpeg")
    store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    stored = objects.get(published.key)
    assert stored is not None
    assert stored.data == b"one"


def test_a_failed_copy_leaves_no_file(objects: ObjectStore, tmp_path: Path) -> None:
    """Copying a missing object to a file raises `Damaged` and leaves no partial file."""
    with pytest.raises(Damaged, match="missing"):
        objects.get_file("narrations/intro/narration-0.mp3", tmp_path / "copy")
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
