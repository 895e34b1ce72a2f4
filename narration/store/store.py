"""The store: one collection for each kind of stored thing, over one object store."""

from __future__ import annotations

import secrets

from narration.errors import StoreRefused
from narration.store.all_objects import AllObjects
from narration.store.clip_holds import HoldCollection
from narration.store.clips import ClipCollection
from narration.store.jobs import JobCollection
from narration.store.keys import check_key
from narration.store.manifests import ManifestCollection
from narration.store.objects import LINK_SECONDS, ObjectStore
from narration.store.published_files import PublishedFileCollection
from narration.store.script_failures import ScriptFailureCollection
from narration.store.scripts import ScriptCollection
from narration.store.voices import VoiceCollection

MIN_FREE_BYTES = 100_000_000  # less is no room for a narration: its master alone takes 6 MB a minute


class Store:
    """The collections of one store. Safe to use from many threads and processes at once.

    All methods, and those of the collections, may raise `StoreUnavailable` (trying again may help) and
    `StoreRefused` (a person must act).
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.clips = ClipCollection(objects)
        self.jobs = JobCollection(objects)
        self.scripts = ScriptCollection(objects)
        self.script_failures = ScriptFailureCollection(objects)
        self.voices = VoiceCollection(objects)
        self.manifests = ManifestCollection(objects)
        self.files = PublishedFileCollection(objects)
        self.holds = HoldCollection(objects)
        self.all_objects = AllObjects(objects)

    @property
    def location(self) -> str:
        """The store's address in messages: a folder's path or `s3://bucket/prefix`."""
        return self._objects.location

    @property
    def is_remote(self) -> bool:
        """Whether the store is in S3, where links expire."""
        return self.location.startswith("s3://")

    def locate(self, key: str) -> str:
        """The address of the object at `key` in messages: the store's location and the key."""
        return f"{self._objects.location}/{check_key(key)}"

    def link(self, key: str, *, seconds: int = LINK_SECONDS) -> str:
        """Return a URL that reads the object without credentials; one into S3 expires after `seconds`."""
        return self._objects.link(key, seconds=seconds)

    def supports_concurrent_writers(self) -> bool:
        """Whether two concurrent writers of a manifest are kept apart; an S3 server is tested."""
        return self._objects.supports_conditional_put()

    def check_writable(self) -> None:
        """Write, read back and delete a small object; raise `StoreError` with a remedy where that fails."""
        free = self._objects.free_bytes()
        if free is not None and free < MIN_FREE_BYTES:
            raise StoreRefused(
                f"the store {self.location} has {free // 1_000_000} MB of room left, and a run needs "
                f"{MIN_FREE_BYTES // 1_000_000}",
                remedy="free some, or set NARRATION_STORE to another place",
            )
        key, data = f"probe-{secrets.token_hex(8)}", secrets.token_bytes(1024)
        self._objects.put(key, data, content_type="application/octet-stream")
        stored = self._objects.get(key)
        self._objects.delete(key)
        if stored is None or stored.data != data:
            raise StoreRefused(
                f"the store {self.location} does not return what was just written",
                remedy="use a store with read-after-write consistency",
            )
