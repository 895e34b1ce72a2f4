"""How often each script of the inbox has failed, so that a sweep gives up on it in the end."""

from __future__ import annotations

import json

from narration.store.collection import StoreCollection, read_json
from narration.store.layout import failures_key
from narration.store.objects import JSON_CONTENT_TYPE


class ScriptFailureCollection(StoreCollection):
    """The number of failed narrations of a script, by the script's SHA-256."""

    def add(self, script_sha256: str) -> int:
        """Count one more failure of the script and return how many there are."""
        failures = self.count(script_sha256) + 1
        data = json.dumps(failures).encode()
        self._objects.put(failures_key(script_sha256), data, content_type=JSON_CONTENT_TYPE)
        return failures

    def count(self, script_sha256: str) -> int:
        """How often the script has failed; 0 where the stored count cannot be read."""
        failures = read_json(self._objects, failures_key(script_sha256))
        return failures if isinstance(failures, int) and failures > 0 else 0

    def clear(self, script_sha256: str) -> None:
        """Delete the count: the script was narrated, or rejected."""
        self._objects.delete(failures_key(script_sha256))
