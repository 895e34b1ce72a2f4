"""How often each script of the inbox has failed."""

from __future__ import annotations

import json

from narration.store.layout import tries_key
from narration.store.objects import JSON_TYPE, StoreCollection, read_note


class ScriptTriesCollection(StoreCollection):
    """Failed tries by the script's SHA-256."""

    def count_failure(self, script_sha256: str) -> int:
        """Note another failed try at a script of the inbox; returns how many there were."""
        tries = self.count(script_sha256) + 1
        self._objects.put(tries_key(script_sha256), json.dumps(tries).encode(), content_type=JSON_TYPE)
        return tries

    def count(self, script_sha256: str) -> int:
        """How often a script of the inbox has failed."""
        note = read_note(self._objects, tries_key(script_sha256))
        return note if isinstance(note, int) and note > 0 else 0

    def forget(self, script_sha256: str) -> None:
        """The script succeeded, or was given up."""
        self._objects.delete(tries_key(script_sha256))
