"""Manifests of narrations: each is replaced only by a writer who read the version before."""

from __future__ import annotations

from pathlib import PurePosixPath

from narration.store.collection import StoreCollection
from narration.store.layout import MANIFEST_NAME, NARRATIONS, is_slug, manifest_key
from narration.store.objects import JSON_CONTENT_TYPE, StoredObject


class ManifestCollection(StoreCollection):
    """The manifest of each narration, as bytes; `narration.manifest` parses and writes them."""

    def read(self, narration_id: str) -> StoredObject | None:
        """Return the manifest's bytes and the etag to `replace` it by, or None."""
        return self._objects.get(manifest_key(narration_id))

    def replace(self, narration_id: str, data: bytes, *, if_match: str | None) -> str:
        """Replace the manifest that has the etag `if_match`, or write the first one (None).

        Returns the new etag. Raises `ManifestConflict` when another writer replaced it since it was read.
        """
        return self._objects.put(
            manifest_key(narration_id),
            data,
            content_type=JSON_CONTENT_TYPE,
            if_match=if_match,
            if_none_match=if_match is None,
        )

    def ids(self) -> list[str]:
        """Return the ids of all narrations that have a manifest, sorted."""
        keys = (PurePosixPath(info.key) for info in self._objects.list(NARRATIONS))
        ids = {key.parent.name for key in keys if key.name == MANIFEST_NAME and len(key.parts) == 3}
        return sorted(filter(is_slug, ids))
