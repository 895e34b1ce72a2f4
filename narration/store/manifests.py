"""Published narrations: files named by their content, and the manifest that is replaced last."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from narration.store.layout import NARRATIONS, is_slug, manifest_key, published_key
from narration.store.objects import StoreCollection

YOUNG = timedelta(hours=1)  # no pruning looks at what was written within it


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file, by reference. `size` in bytes."""

    key: str
    sha256: str
    size: int


class NarrationCollection(StoreCollection):
    """What other programs read: `narrations/<id>/manifest.json` and the files it names."""

    def publish_file(
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

    def has_file(self, key: str, size: int) -> bool:
        """Whether the published file is there with its size in bytes."""
        info = self._objects.head(key)
        return info is not None and info.size == size

    def fetch_file(self, key: str, path: Path) -> None:
        """Write a published file to `path`; raises `Damaged` when it is missing or altered."""
        self._objects.get_file(key, path)

    def read_manifest(self, narration_id: str) -> tuple[bytes, str] | None:
        """Return the manifest's bytes and its etag for `replace_manifest`, or None."""
        stored = self._objects.get(manifest_key(narration_id))
        return None if stored is None else (stored.data, stored.etag)

    def replace_manifest(self, narration_id: str, data: bytes, *, if_match: str | None) -> str:
        """Replace the manifest that has the etag `if_match`, or write the first (None); return the new etag.

        Raises `ManifestConflict` when somebody else wrote it since.
        """
        return self._objects.put(
            manifest_key(narration_id),
            data,
            content_type="application/json",
            if_match=if_match,
            if_none_match=if_match is None,
        )

    def list_narrations(self) -> list[str]:
        """Return the ids of all narrations that have a manifest, sorted."""
        keys = (PurePosixPath(info.key) for info in self._objects.list(NARRATIONS))
        ids = {key.parent.name for key in keys if key.name == "manifest.json" and len(key.parts) == 3}
        return sorted(filter(is_slug, ids))
