"""Stored objects of every kind, by key: pruning lists and deletes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from narration.store.collection import StoreCollection
from narration.store.objects import ObjectInfo


class AllObjects(StoreCollection):
    """Every stored object, whatever collection it belongs to."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, one of the layout's prefixes."""
        return self._objects.list(prefix)

    def delete_if_unchanged(self, listed: ObjectInfo) -> bool:
        """Delete an object unless it was written since it was `listed`; return whether it is gone."""
        current = self._objects.head(listed.key)
        # Some S3 servers list times in milliseconds but report a single object's time in whole seconds.
        if current is not None and _whole_second(current.modified) == _whole_second(listed.modified):
            self._objects.delete(listed.key)
            return True
        return current is None


def _whole_second(time: datetime) -> datetime:
    return time.replace(microsecond=0)
