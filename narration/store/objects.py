"""The object store protocol: the operations that a folder and an S3 bucket both offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

PARALLEL_REQUESTS = 64
"""Requests in flight at once where many small objects are read or deleted."""

JSON_CONTENT_TYPE = "application/json"

LINK_SECONDS = 7 * 86_400
"""The longest that a link can be valid: the limit of S3's signature version 4."""


class StoredObject(NamedTuple):
    """An object's bytes, and the etag by which `put(if_match=...)` recognizes this version of it."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of an object. `size` in bytes; `modified` in UTC, when it was last written."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Objects under keys, safe to use from many threads and processes at once.

    Every write is atomic: a reader gets the object as it was before it or as it is after it. Every method
    raises `StoreUnavailable` when trying again may help, `StoreRefused` when a person must act, and
    `SettingsError` for a key that `check_key` refuses.
    """

    location: str
    """The store's address in messages: a folder's path or `s3://bucket/prefix`."""

    def get(self, key: str) -> StoredObject | None:
        """Return the object, or None; raises `Damaged` for bytes that fail their recorded SHA-256."""

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's size and time without reading it, or None."""

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 recorded with the object, or of its bytes where none is recorded, or None."""

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

        With `if_match`, replaces only the object of that etag; with `if_none_match`, writes only where
        there is no object. Raises `ManifestConflict` without writing when the condition fails.
        """

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Write the file at `path`, of any size, as an object."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the object to `path`, atomically; raises `Damaged` when it is missing or altered."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, which ends in a slash; in no particular order."""

    def delete(self, key: str) -> None:
        """Delete the object; does nothing if there is none."""

    def link(self, key: str, *, seconds: int) -> str:
        """Return a URL that reads the object without credentials, valid for `seconds` at most."""

    def free_bytes(self) -> int | None:
        """Return the free space in bytes, or None where it is not known."""

    def supports_conditional_put(self) -> bool:
        """Whether `if_match` and `if_none_match` hold between concurrent writers; an S3 server is tested."""
