"""Published files of narrations: masters, captions and review pages, named by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from narration.store.collection import StoreCollection
from narration.store.layout import published_key

REWRITE_AFTER = timedelta(hours=1)  # much shorter than the time that pruning leaves a superseded file alone


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file, by reference. `size` in bytes."""

    key: str
    sha256: str
    size: int


class PublishedFileCollection(StoreCollection):
    """The files that manifests name; other content has another name, so none is overwritten with it."""

    def publish(
        self, narration_id: str, path: Path, stem: str, suffix: str, content_type: str
    ) -> PublishedFile:
        """Store the file at `path` as `<stem>-<its SHA-256><suffix>`, unless it was stored within an hour.

        A file that was stored earlier is written again, which renews its time: it may have been
        superseded long ago, and pruning deletes only files whose time is unchanged since it looked.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        published = PublishedFile(
            published_key(narration_id, stem, sha256, suffix), sha256, path.stat().st_size
        )
        stored = self._objects.head(published.key)
        is_recent = stored is not None and datetime.now(UTC) - stored.modified < REWRITE_AFTER
        if not (is_recent and self._objects.sha256(published.key) == sha256):
            self._objects.put_file(published.key, path, content_type=content_type)
        return published

    def has(self, key: str, size: int) -> bool:
        """Whether a published file is stored under `key` and has `size` bytes."""
        info = self._objects.head(key)
        return info is not None and info.size == size
