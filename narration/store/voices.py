"""Voices as stored: a sample named by its content, and what is known of the voice, replaced last."""

from __future__ import annotations

from pathlib import PurePosixPath

from narration.errors import Damaged
from narration.store.layout import VOICES, is_slug, sample_key, voice_key
from narration.store.objects import StoreCollection


class VoiceCollection(StoreCollection):
    """The bytes of voices; what they mean is known to `narration.voices`."""

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

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return what is known of the voice `name`, and its etag, or None."""
        stored = self._objects.get(voice_key(name))
        return None if stored is None else (stored.data, stored.etag)

    def replace(self, name: str, data: bytes, *, if_match: str | None) -> None:
        """Replace what is known of a voice, or write the first (None), like a manifest."""
        self._objects.put(
            voice_key(name),
            data,
            content_type="application/json",
            if_match=if_match,
            if_none_match=if_match is None,
        )

    def names(self) -> list[str]:
        """Return the names of all voices, sorted."""
        keys = (PurePosixPath(info.key) for info in self._objects.list(VOICES))
        return sorted(
            key.parent.name for key in keys if key.name == "voice.json" and is_slug(key.parent.name)
        )
