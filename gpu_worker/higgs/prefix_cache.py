"""Prefix cache: keys and values of prompt prefixes, one for each voice in use, on the device."""

from __future__ import annotations

from collections import OrderedDict

import torch


class PrefixCache:
    """Holds at most `capacity` bytes; the prefix that was used longest ago is removed first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> torch.Tensor | None:
        """The entry stored under `key`, or None."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: torch.Tensor) -> None:
        """Store a copy of `entry` under a new `key`, unless it is larger than the whole cache."""
        assert key not in self._entries
        if entry.nbytes > self._capacity:
            return
        while self._bytes + entry.nbytes > self._capacity:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.nbytes
        self._entries[key] = entry.clone()
        self._bytes += entry.nbytes

    def clear(self) -> None:
        """Remove every entry."""
        self._entries.clear()
        self._bytes = 0
