"""Every stored object, to be listed and deleted by pruning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from narration.store.objects import ObjectInfo, StoreCollection


class AllObjects(StoreCollection):
    """Objects of every kind, by key."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object of one kind."""
        return self._objects.list(prefix)

    def delete_unchanged(self, seen: ObjectInfo) -> bool:
        """Delete an object for good unless it was written again since it was `seen`; whether it is gone."""
        now = self._objects.head(seen.key)
        # Some S3 servers list milliseconds, and answer for a single object in whole seconds.
        if now is not None and _second(now.modified) == _second(seen.modified):
            self._objects.delete(seen.key)
            return True
        return now is None


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
