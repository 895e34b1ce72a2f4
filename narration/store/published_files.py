"""Published files of narrations: masters, captions and pages, named by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from narration.store.layout import published_key
from narration.store.objects import StoreCollection

YOUNG = timedelta(hours=1)  # pruning leaves alone what was written within it


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file, by reference. `size` in bytes."""

    key: str
    sha256: str
    size: int


class PublishedFileCollection(StoreCollection):
    """The files that manifests name; none is ever overwritten with other content."""

    def publish(
        self, narration_id: str, path: Path, stem: str, suffix: str, content_type: str
    ) -> PublishedFile:
        """Publish the file at `path` under a name made of its content, unless it is there already.

        A published file is never overwritten with other content, which would have another name.
        One that has been there for a while is written again: it may have been superseded, and
        old enough for pruning to take it away at this moment.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        published = PublishedFile(
            published_key(narration_id, stem, sha256, suffix), sha256, path.stat().st_size
        )
        there = self._objects.head(published.key)
        young = there is not None and datetime.now(UTC) - there.modified < YOUNG
        if not (young and self._objects.sha256(published.key) == sha256):
            self._objects.put_file(published.key, path, content_type=content_type)
        return published

    def has(self, key: str, size: int) -> bool:
        """Whether the published file is there with its size in bytes."""
        info = self._objects.head(key)
        return info is not None and info.size == size

    def fetch(self, key: str, path: Path) -> None:
        """Write a published file to `path`; raises `Damaged` when it is missing or altered."""
        self._objects.get_file(key, path)
