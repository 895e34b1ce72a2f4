"""Holds: for each run in progress, the list of clips that pruning must not delete."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from narration.store.collection import StoreCollection, read_json
from narration.store.layout import HOLDS, hold_key
from narration.store.objects import JSON_CONTENT_TYPE

HOLD_EXPIRES = timedelta(days=7)  # for runs that died before they released their clips


class HoldCollection(StoreCollection):
    """One hold for each run in progress. A lost hold can cost a clip that must be made again."""

    def hold(self, run_id: str, digests: Iterable[str]) -> None:
        """Record that the run needs the clips of these digests."""
        data = json.dumps(sorted(digests)).encode()
        self._objects.put(hold_key(run_id), data, content_type=JSON_CONTENT_TYPE)

    def release(self, run_id: str) -> None:
        """Delete the run's hold."""
        self._objects.delete(hold_key(run_id))

    def held_digests(self) -> set[str]:
        """Digests of all clips that runs in progress need; an unreadable or expired hold counts for none."""
        held: set[str] = set()
        oldest = datetime.now(UTC) - HOLD_EXPIRES
        for info in self._objects.list(HOLDS):
            digests = read_json(self._objects, info.key) if info.modified >= oldest else None
            if isinstance(digests, list):
                held.update(digest for digest in digests if isinstance(digest, str))
        return held
