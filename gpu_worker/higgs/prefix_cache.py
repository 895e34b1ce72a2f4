"""Prefix cache: keys and values of prompt prefixes, one for each voice in use, on the device."""

from __future__ import annotations

import torch
from cachetools import LRUCache


class PrefixCache:
    """Holds at most `capacity` bytes; the prefix that was used longest ago is removed first."""

    def __init__(self, capacity: int) -> None:
        self._entries: LRUCache[bytes, torch.Tensor] = LRUCache(capacity, getsizeof=_size)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> torch.Tensor | None:
        """The entry stored under `key`, or None."""
        return self._entries.get(key)

    def put(self, key: bytes, entry: torch.Tensor) -> None:
        """Store a copy of `entry` under a new `key`, unless it is larger than the whole cache."""
        assert key not in self._entries
        if entry.nbytes > self._entries.maxsize:
            return
        # Removed before the copy is made, so that both never take memory at once.
        while self._entries.currsize + entry.nbytes > self._entries.maxsize:
            self._entries.popitem()
        self._entries[key] = entry.clone()

    def clear(self) -> None:
        """Remove every entry."""
        self._entries.clear()


def _size(entry: torch.Tensor) -> int:
    return int(entry.nbytes)
