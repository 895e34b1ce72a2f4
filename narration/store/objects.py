"""What a place for objects must offer: the few primitives that a folder and S3 share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic_core import from_json

from narration.errors import Damaged, SettingsError

PARALLEL_READS = 64
"""Small reads in flight at once when many keys are asked for."""

JSON_TYPE = "application/json"

LINK_SECONDS = 7 * 86_400
"""How long a link may be good for: S3's signature version 4 allows no more."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes; `etag` is what `put(if_match=...)` compares."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without reading it. `size` in bytes, `modified` in UTC."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Whole objects under keys, safe to use from many threads and processes at once.

    Every write is atomic: a reader sees the object before or after it, whole. Every method
    raises `StoreUnavailable` when trying again may help and `StoreRefused` when a person
    must act; a key that no object can have is a `SettingsError`.
    """

    location: str
    """Where this is, for people: a folder's path or `s3://bucket/prefix`."""

    def get(self, key: str) -> StoredObject | None:
        """Return the object, or None; raises `Damaged` for bytes that fail their recorded SHA-256."""

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of the object, or None."""

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 of the object's bytes, by record where there is one, or None without object."""

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Write the object and return its etag.

        With `if_match`, only over the object of that etag; with `if_none_match`, only where
        there is none. Raises `ManifestConflict` otherwise, and then nothing was written.
        """

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Write the file at `path`, of any size, as an object."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to `path`, whole or not at all; raises `Damaged` when missing or altered."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, which ends in a slash; in no particular order."""

    def delete(self, key: str) -> None:
        """Delete the object; nothing happens if there is none."""

    def link(self, key: str, *, seconds: int) -> str:
        """Return a URL by which a person or a program without credentials reads the object, for a while."""

    def free_bytes(self) -> int | None:
        """Return the room left, or None where that is not known."""

    def supports_conditional_put(self) -> bool:
        """Whether `if_match` and `if_none_match` hold between concurrent writers. Asks the server."""


class StoreCollection:
    """A part of the store: one kind of thing, and its keys, over the place that holds them all."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects


def read_note(objects: ObjectStore, key: str) -> object:
    """The JSON stored at `key`; None where there is none that can be read."""
    try:
        stored = objects.get(key)
        return from_json(stored.data) if stored is not None else None
    except (ValueError, Damaged):
        return None


_WINDOWS_DEVICES = re.compile(r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u2028-\u202e\u2066-\u2069]')  # controls, and Windows'
_MAX_KEY_BYTES = 900  # S3 allows 1,024 with the store's prefix
_MAX_NAME_BYTES = 240  # file systems allow 255, temporary names included


def check_key(key: str) -> str:
    """Return `key` if it names an object on every backend and system; raise `SettingsError` if not.

    Slash-separated names, each a plain file name on Linux, macOS and Windows: no way out of
    the store, no hidden file, no device, drive or stream of Windows, nothing a terminal obeys or
    that turns the direction of a line around.
    """
    try:
        sizes = [len(name.encode()) for name in key.split("/")]
    except UnicodeEncodeError:
        raise SettingsError(f"{key!r} cannot be a key in the store: it holds a lone surrogate") from None
    if sum(sizes) + len(sizes) > _MAX_KEY_BYTES or max(sizes) > _MAX_NAME_BYTES:
        raise SettingsError(f"{key[:80]!r}... is too long for a key in the store")
    for name in key.split("/"):
        if not name or name.startswith(".") or name.endswith((".", " ")):
            raise SettingsError(f"{key!r} cannot be a key in the store: {name!r} is no plain file name")
        if _FORBIDDEN.search(name) or _WINDOWS_DEVICES.fullmatch(name):
            raise SettingsError(f"{key!r} cannot be a key in the store: {name!r} is no file name on Windows")
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` would let `key` pass."""
    try:
        check_key(key)
    except SettingsError:
        return False
    return True
