"""Opening a store by its URL: a folder's path or `s3://bucket/prefix`."""

from __future__ import annotations

import re
from pathlib import Path

from narration.errors import SettingsError
from narration.store.folder import FolderObjectStore
from narration.store.keys import check_key
from narration.store.objects import ObjectStore
from narration.store.store import Store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two characters at least: C: is a drive
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_store(url: str) -> Store:
    """Open the store at a folder's path or `s3://bucket/prefix`; touches neither disk nor network yet.

    Raises `SettingsError` for any other URL, `StoreRefused` for a path that is not a folder.
    """
    return Store(open_objects(url))


def open_objects(url: str) -> ObjectStore:
    """Open the object store below the store at `url`, as `open_store` does."""
    if not url.strip():
        raise SettingsError(
            "no store is named", remedy="set NARRATION_STORE to a folder or s3://bucket/prefix"
        )
    scheme = _SCHEME.match(url)
    if scheme is None:
        return FolderObjectStore(Path(url))
    if scheme[1] != "s3":
        raise SettingsError(
            f"a store cannot be at {scheme[1]}:", remedy="name a folder's path or s3://bucket/prefix"
        )
    return _open_bucket(url[len("s3:") :])


def _open_bucket(address: str) -> ObjectStore:
    """Open the bucket and prefix at `address`, `//bucket/prefix`."""
    bucket, _, prefix = address.removeprefix("//").partition("/")
    prefix = prefix.strip("/")
    if not address.startswith("//") or not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            f"{bucket[:80]!r} is not the name of a bucket",
            remedy="NARRATION_STORE is s3://bucket/prefix, with 3 to 63 of a-z, 0-9, . and - in the bucket",
        )
    if prefix:
        check_key(prefix)
    # Importing boto3 takes 0.3 s, which a store in a folder need not wait for.
    from narration.store.s3 import S3ObjectStore  # noqa: PLC0415  as above
    from narration.store.s3_client import s3_client  # noqa: PLC0415  as above

    return S3ObjectStore(s3_client(), bucket, prefix)
