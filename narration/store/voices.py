"""Stored voices: each a sample named by its content, and a description, written last."""

from __future__ import annotations

from pathlib import PurePosixPath

from narration.errors import Damaged
from narration.store.collection import StoreCollection
from narration.store.layout import VOICE_NAME, VOICES, is_slug, sample_key, voice_key
from narration.store.objects import JSON_CONTENT_TYPE, StoredObject


class VoiceCollection(StoreCollection):
    """Samples and descriptions of voices, as bytes; `narration.voices` parses and writes them."""

    @property
    def location(self) -> str:
        """The store's address in messages: a folder's path or `s3://bucket/prefix`."""
        return self._objects.location

    def link_sample(self, key: str, *, seconds: int) -> str:
        """Return a URL that reads a sample without credentials; one into S3 expires after `seconds`."""
        return self._objects.link(key, seconds=seconds)

    def put_sample(self, name: str, sha256: str, data: bytes, *, suffix: str, content_type: str) -> str:
        """Store a sample of the voice `name` and return its key."""
        key = sample_key(name, sha256, suffix)
        self._objects.put(key, data, content_type=content_type)
        return key

    def read_sample(self, key: str) -> bytes:
        """Return a sample's bytes; raises `Damaged` when they are missing."""
        stored = self._objects.get(key)
        if stored is None:
            raise Damaged(f"{self._objects.location}/{key} is missing", remedy="add the voice again")
        return stored.data

    def read(self, name: str) -> StoredObject | None:
        """Return the description of the voice `name` and the etag to `replace` it by, or None."""
        return self._objects.get(voice_key(name))

    def replace(self, name: str, data: bytes, *, if_match: str | None) -> None:
        """Replace the description that has the etag `if_match`, or write the first one (None).

        Raises `ManifestConflict` when another writer replaced it since it was read.
        """
        self._objects.put(
            voice_key(name),
            data,
            content_type=JSON_CONTENT_TYPE,
            if_match=if_match,
            if_none_match=if_match is None,
        )

    def names(self) -> list[str]:
        """Return the names of all voices, sorted."""
        keys = (PurePosixPath(info.key) for info in self._objects.list(VOICES))
        return sorted(key.parent.name for key in keys if key.name == VOICE_NAME and is_slug(key.parent.name))
