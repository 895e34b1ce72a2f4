"""Prefix cache: keys and values of the prompts' shared beginnings, one for each voice in use."""

from __future__ import annotations

from collections import OrderedDict

import torch


class PrefixCache:
    """Least recently used leaves first; never more than `capacity` bytes of the device's memory."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> torch.Tensor | None:
        """What was put under `key`, if it is still there."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: torch.Tensor) -> None:
        """Remember a copy of `entry` under a new `key`, unless it is larger than the whole cache."""
        assert key not in self._entries
        if entry.nbytes > self._capacity:
            return
        while self._bytes + entry.nbytes > self._capacity:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.nbytes
        self._entries[key] = entry.clone()
        self._bytes += entry.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0
