"""The store: its collections over a folder or S3, opened by its URL."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from narration.errors import SettingsError, StoreRefused
from narration.store.all_objects import AllObjects
from narration.store.clips import ClipCollection
from narration.store.folder import Folder
from narration.store.holds import HoldCollection
from narration.store.jobs import JobCollection
from narration.store.manifests import ManifestCollection
from narration.store.objects import LINK_SECONDS, ObjectStore, check_key
from narration.store.published_files import PublishedFileCollection
from narration.store.script_tries import ScriptTriesCollection
from narration.store.scripts import ScriptCollection
from narration.store.voices import VoiceCollection

MIN_FREE_BYTES = 100_000_000  # less is no room for a narration: its master alone takes 6 MB a minute

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two characters at least: C: is a drive
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Store:
    """The store: a collection for each kind of thing. Safe to use from many threads and processes at once.

    All methods, and those of its collections, may raise `StoreUnavailable` (trying again may help) and
    `StoreRefused` (a person must act).
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.clips = ClipCollection(objects)
        self.jobs = JobCollection(objects)
        self.scripts = ScriptCollection(objects)
        self.script_tries = ScriptTriesCollection(objects)
        self.voices = VoiceCollection(objects)
        self.manifests = ManifestCollection(objects)
        self.files = PublishedFileCollection(objects)
        self.holds = HoldCollection(objects)
        self.all_objects = AllObjects(objects)

    @property
    def location(self) -> str:
        """Where the store is, for people: a folder's path or `s3://bucket/prefix`."""
        return self._objects.location

    @property
    def is_remote(self) -> bool:
        """Whether the store is reached over a network, by links that expire."""
        return self.location.startswith("s3://")

    def locate(self, key: str) -> str:
        """Where the object at `key` is, for people."""
        return f"{self._objects.location}/{check_key(key)}"

    def link(self, key: str, *, seconds: int = LINK_SECONDS) -> str:
        """Return a URL to read the object by without credentials; in S3 it is good for `seconds`."""
        return self._objects.link(key, seconds=seconds)

    def supports_concurrent_writers(self) -> bool:
        """Whether the store keeps two writers of one manifest apart; asks the server by trying."""
        return self._objects.supports_conditional_put()

    def check_writable(self) -> None:
        """Write, read back and delete a small object; raise `StoreError` with a remedy where that fails."""
        free = self._objects.free_bytes()
        if free is not None and free < MIN_FREE_BYTES:
            raise StoreRefused(
                f"the store {self.location} has {free // 1_000_000} MB of room left, of the "
                f"{MIN_FREE_BYTES // 1_000_000} that a run wants",
                remedy="free some, or set NARRATION_STORE to another place",
            )
        key, data = f"probe-{secrets.token_hex(8)}", secrets.token_bytes(1024)
        self._objects.put(key, data, content_type="application/octet-stream")
        stored = self._objects.get(key)
        self._objects.delete(key)
        if stored is None or stored.data != data:
            raise StoreRefused(
                f"the store {self.location} does not give back what was just written",
                remedy="use a store that shows every write to the next read",
            )


def open_store(url: str) -> Store:
    """Open the store at a folder's path or `s3://bucket/prefix`; touches neither disk nor network yet.

    Raises `SettingsError` for anything else, `StoreRefused` for a path that is not a folder.
    """
    scheme = _SCHEME.match(url)
    if not url.strip():
        raise SettingsError(
            "no store is named", remedy="set NARRATION_STORE to a folder or s3://bucket/prefix"
        )
    if scheme is None:
        return Store(Folder(Path(url)))
    if scheme[1] != "s3":
        raise SettingsError(
            f"a store cannot be at {scheme[1]}:", remedy="name a folder's path or s3://bucket/prefix"
        )
    bucket, _, prefix = url[len("s3:") :].removeprefix("//").partition("/")
    prefix = prefix.strip("/")
    if not url[len("s3:") :].startswith("//") or not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            f"{bucket[:80]!r} is not the name of a bucket",
            remedy="NARRATION_STORE is s3://bucket/prefix, with 3 to 63 of a-z, 0-9, . and - in the bucket",
        )
    if prefix:
        check_key(prefix)
    # boto3 takes 0.3 s to import, which a folder need not wait for.
    from narration.store.s3 import S3Objects  # noqa: PLC0415  as above
    from narration.store.s3_client import s3_client  # noqa: PLC0415  as above

    return Store(S3Objects(s3_client(), bucket, prefix))
