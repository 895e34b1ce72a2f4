"""Stored scripts: narrated ones by content, those that wait in the inbox, and rejected ones."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from narration.errors import ScriptError, SettingsError
from narration.store.collection import StoreCollection
from narration.store.keys import check_key
from narration.store.layout import INBOX, SCRIPTS, rejected_key, script_key
from narration.store.objects import ObjectInfo

_TEXT = "text/plain; charset=utf-8"

MAX_READ_BYTES = 10_000_000  # far more than a script has; a larger file is refused without being read


class ScriptCollection(StoreCollection):
    """Scripts under `scripts/`, `inbox/` and `rejected/`."""

    def put(self, data: bytes, suffix: str) -> str:
        """Store a script by its SHA-256 and return its key, by which it can be narrated."""
        key = script_key(hashlib.sha256(data).hexdigest(), suffix)
        self._objects.put(key, data, content_type=_TEXT)
        return key

    def read(self, key: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """Return the script at `key`, which is under `scripts/` or `inbox/`.

        Raises `SettingsError` for any other key, `ScriptError` for a script that is missing or too large.
        """
        if not check_key(key).startswith((SCRIPTS, INBOX)):
            raise SettingsError(
                f"{key!r} is not a script's key", remedy=f"it starts with {SCRIPTS} or {INBOX}"
            )
        info = self._objects.head(key)
        if info is not None and info.size > max_bytes:
            raise ScriptError(f"{key}: {info.size} bytes are more than the {max_bytes} a script may hold")
        stored = self._objects.get(key) if info else None
        if stored is None:
            raise self._missing(key)
        return stored.data

    def list_inbox(self) -> list[ObjectInfo]:
        """Return the scripts in the inbox, oldest first."""
        return sorted(self._objects.list(INBOX), key=lambda info: (info.modified, info.key))

    def reject(self, key: str, reason: str) -> str:
        """Move a script from the inbox to `rejected/`, with the reason beside it; return its new key.

        A script that a person replaces meanwhile stays in the inbox.
        """
        if not check_key(key).startswith(INBOX):
            raise SettingsError(f"{key!r} is not in the inbox")
        before = self._objects.head(key)
        if before is None:
            raise self._missing(key)
        with TemporaryDirectory() as folder:  # on disk, since a rejected script may be of any size
            copy = Path(folder, "rejected")
            self._objects.get_file(key, copy)
            with copy.open("rb") as file:
                target = rejected_key(key, hashlib.file_digest(file, "sha256").hexdigest())
            self._objects.put_file(target, copy, content_type=_TEXT)
        reason_key = str(PurePosixPath(target).with_suffix(".reason.txt"))
        self._objects.put(reason_key, f"{reason}\n".encode(), content_type=_TEXT)
        if self._objects.head(key) == before:
            self._objects.delete(key)
        return target

    def _missing(self, key: str) -> ScriptError:
        return ScriptError(
            f"{self._objects.location} holds no script {key}",
            remedy="put it there, under inbox/ or scripts/, or name one that is there",
        )
