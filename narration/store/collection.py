"""What the store's collections share: the object store below them, and reading small JSON objects."""

from __future__ import annotations

from pydantic_core import from_json

from narration.errors import Damaged
from narration.store.objects import ObjectStore


class StoreCollection:
    """One kind of stored thing, with its keys, in an object store that all collections share."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects


def read_json(objects: ObjectStore, key: str) -> object:
    """Return the JSON value stored at `key`; None where it is missing, damaged or not JSON."""
    try:
        stored = objects.get(key)
        return from_json(stored.data) if stored is not None else None
    except (ValueError, Damaged):
        return None
