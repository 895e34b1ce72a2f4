"""Manifests of narrations: `narrations/<id>/manifest.json`, replaced only by who read the one before."""

from __future__ import annotations

from pathlib import PurePosixPath

from narration.store.layout import NARRATIONS, is_slug, manifest_key
from narration.store.objects import StoreCollection


class ManifestCollection(StoreCollection):
    """The published manifest of each narration, as bytes; `narration.manifest` reads and writes them."""

    def read(self, narration_id: str) -> tuple[bytes, str] | None:
        """Return the manifest's bytes and its etag for `replace_manifest`, or None."""
        stored = self._objects.get(manifest_key(narration_id))
        return None if stored is None else (stored.data, stored.etag)

    def replace(self, narration_id: str, data: bytes, *, if_match: str | None) -> str:
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

    def ids(self) -> list[str]:
        """Return the ids of all narrations that have a manifest, sorted."""
        keys = (PurePosixPath(info.key) for info in self._objects.list(NARRATIONS))
        ids = {key.parent.name for key in keys if key.name == "manifest.json" and len(key.parts) == 3}
        return sorted(filter(is_slug, ids))
