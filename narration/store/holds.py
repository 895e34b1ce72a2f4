"""Which clips the runs in progress need, so that pruning leaves them alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from narration.store.layout import held_key
from narration.store.objects import JSON_TYPE, StoreCollection, read_note

HELD = "runs/"
HOLD_EXPIRES = timedelta(days=7)  # after it, a run that died without releasing its clips holds them no longer


class HoldCollection(StoreCollection):
    """One hold for each run in progress. A lost one costs a clip made again, never a wrong one."""

    def hold(self, run: str, digests: Iterable[str]) -> None:
        """Note that the run `run` needs these clips, so that pruning leaves them."""
        self._objects.put(held_key(run), json.dumps(sorted(digests)).encode(), content_type=JSON_TYPE)

    def release(self, run: str) -> None:
        """The run needs nothing any more."""
        self._objects.delete(held_key(run))

    def held(self) -> set[str]:
        """Digests of all clips that runs in progress need."""
        held: set[str] = set()
        oldest = datetime.now(UTC) - HOLD_EXPIRES
        for info in self._objects.list(HELD):
            note = read_note(self._objects, info.key) if info.modified >= oldest else None
            if isinstance(note, list):
                held.update(digest for digest in note if isinstance(digest, str))
        return held
