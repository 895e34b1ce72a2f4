"""What runs in progress need, and how often a script has failed: notes that pass away."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from pydantic_core import from_json

from narration.errors import Damaged
from narration.store.layout import held_key, tries_key
from narration.store.objects import ObjectInfo, StoreCollection

HELD = "runs/"
HOLD_EXPIRES = timedelta(days=7)  # of a run that died without letting go

_JSON = "application/json"


class RunCollection(StoreCollection):
    """Notes of runs. Losing one costs a clip made again, never a wrong one."""

    def hold_clips(self, run: str, digests: Iterable[str]) -> None:
        """Note that the run `run` needs these clips, so that pruning leaves them."""
        self._objects.put(held_key(run), json.dumps(sorted(digests)).encode(), content_type=_JSON)

    def release_clips(self, run: str) -> None:
        """The run needs nothing any more."""
        self._objects.delete(held_key(run))

    def held_clips(self) -> set[str]:
        """Digests of all clips that runs in progress need."""
        held: set[str] = set()
        oldest = datetime.now(UTC) - HOLD_EXPIRES
        for info in self._objects.list(HELD):
            note = self._read_note(info.key) if info.modified >= oldest else None
            if isinstance(note, list):
                held.update(digest for digest in note if isinstance(digest, str))
        return held

    def count_try(self, script_sha256: str) -> int:
        """Note another failed try at a script of the inbox; returns how many there were."""
        tries = self.tries(script_sha256) + 1
        self._objects.put(tries_key(script_sha256), json.dumps(tries).encode(), content_type=_JSON)
        return tries

    def tries(self, script_sha256: str) -> int:
        """How often a script of the inbox has failed."""
        note = self._read_note(tries_key(script_sha256))
        return note if isinstance(note, int) and note > 0 else 0

    def forget_tries(self, script_sha256: str) -> None:
        """The script succeeded, or was given up."""
        self._objects.delete(tries_key(script_sha256))

    def _read_note(self, key: str) -> object:
        """What a note says; nothing, where it cannot be read."""
        try:
            stored = self._objects.get(key)
            return from_json(stored.data) if stored is not None else None
        except (ValueError, Damaged):
            return None


class PruneCollection(StoreCollection):
    """What pruning looks at and deletes."""

    def everything_under(self, prefix: str) -> Iterator[ObjectInfo]:
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


def digest_of(key: str) -> str:
    """The digest that a clip's key is made of."""
    return PurePosixPath(key).stem
