"""Scripts: those narrated, kept by content, and those a person drops into the inbox."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from narration.errors import ScriptError, SettingsError
from narration.store.layout import INBOX, SCRIPTS, rejected_key, script_key
from narration.store.objects import ObjectInfo, StoreCollection, check_key

_TEXT = "text/plain; charset=utf-8"

MAX_READ_BYTES = 10_000_000  # of a script; more is a mistake, and is not loaded to find out


class ScriptCollection(StoreCollection):
    """Scripts as narrated, the inbox, and beside it the folder of rejected ones."""

    def put(self, data: bytes, suffix: str) -> str:
        """Keep a script under its SHA-256 and return the key, which is also a reference to narrate by."""
        key = script_key(hashlib.sha256(data).hexdigest(), suffix)
        self._objects.put(key, data, content_type=_TEXT)
        return key

    def read(self, key: str, *, max_bytes: int = MAX_READ_BYTES) -> bytes:
        """Return the script at `key`, which lies under `scripts/` or `inbox/`.

        Raises `SettingsError` for any other key, `ScriptError` for one that is missing or too large.
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

    def inbox(self) -> list[ObjectInfo]:
        """Return what lies in the inbox, oldest first."""
        return sorted(self._objects.list(INBOX), key=lambda info: (info.modified, info.key))

    def reject(self, key: str, reason: str) -> str:
        """Move the inbox's script at `key` to `rejected/`, its reason beside it; return its new key.

        A script replaced by a newer version while this ran stays in the inbox.
        """
        if not check_key(key).startswith(INBOX):
            raise SettingsError(f"{key!r} is not in the inbox")
        before = self._objects.head(key)
        if before is None:
            raise self._missing(key)
        with TemporaryDirectory() as folder:  # by way of the disk: what is rejected may be of any size
            copy = Path(folder, "rejected")
            self._objects.get_file(key, copy)
            with copy.open("rb") as file:
                target = rejected_key(key, hashlib.file_digest(file, "sha256").hexdigest())
            self._objects.put_file(target, copy, content_type=_TEXT)
        beside = str(PurePosixPath(target).with_suffix(".reason.txt"))
        self._objects.put(beside, f"{reason}\n".encode(), content_type=_TEXT)
        if self._objects.head(key) == before:
            self._objects.delete(key)
        return target

    def _missing(self, key: str) -> ScriptError:
        return ScriptError(
            f"{self._objects.location} holds no script {key}",
            remedy="put it there, under inbox/ or scripts/, or name one that is there",
        )
