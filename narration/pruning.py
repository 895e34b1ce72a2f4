"""What in the store nobody needs any more: found first, deleted only when told to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from narration.manifest import Manifest, load_manifest
from narration.store import ObjectInfo, Store
from narration.store.layout import CLIPS, NARRATIONS, digest_of
from narration.store.objects import PARALLEL_READS

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Unneeded:
    """An object that nothing names, as it was seen, and why it is not needed."""

    info: ObjectInfo
    reason: str


def find_unneeded(store: Store, *, grace: timedelta) -> list[Unneeded]:
    """Clips that no manifest, no take and no run in progress names, and superseded masters and captions.

    Only what has not changed for `grace` counts, and a file only once it has been superseded for
    so long. Reads every manifest; raises `StoreRefused` when one cannot be read, since it may
    name anything.
    """
    before = datetime.now(UTC) - grace
    needed = store.holds.held()  # before the manifests: a run that ends in between is then in one of both
    manifests = dict(_manifests(store))
    needed |= {digest for manifest in manifests.values() for digest in _named(manifest)}
    needed |= {record.digest for record in store.jobs.list()}
    published = {entry.key for manifest in manifests.values() for entry in manifest.files}
    found = [
        Unneeded(info, "clip of no narration")
        for info in store.all_objects.list(CLIPS)
        if info.modified < before and digest_of(info.key) not in needed
    ]
    found += [
        Unneeded(info, "superseded") for info in _settled_files(store, before) if info.key not in published
    ]
    return sorted(found, key=lambda entry: (not _goes_first(entry), entry.info.key))


def delete_unneeded(store: Store, shown: Sequence[Unneeded], *, grace: timedelta) -> list[Unneeded]:
    """Delete of `shown` what is still not needed now and has not been written since; returns what is gone."""
    still = {entry.info for entry in find_unneeded(store, grace=grace)}
    chosen = [entry for entry in shown if entry.info in still]
    gone: list[Unneeded] = []
    with ThreadPoolExecutor(PARALLEL_READS, "prune") as pool:
        # A clip's sidecar goes before its audio, so that it is at no moment there by half.
        for first in (True, False):
            batch = [entry for entry in chosen if _goes_first(entry) is first]
            deleted = pool.map(lambda entry: store.all_objects.delete_unchanged(entry.info), batch)
            gone += [entry for entry, done in zip(batch, deleted, strict=True) if done]
    return gone


def _goes_first(entry: Unneeded) -> bool:
    return entry.info.key.endswith(".json")


def _settled_files(store: Store, before: datetime) -> Iterator[ObjectInfo]:
    """Files of narrations that were written, and whose manifest was last replaced, before that time."""
    files = list(store.all_objects.list(NARRATIONS))
    replaced = {
        PurePosixPath(info.key).parent: info.modified
        for info in files
        if PurePosixPath(info.key).name == _MANIFEST
    }
    for info in files:
        path = PurePosixPath(info.key)
        if path.name != _MANIFEST and max(info.modified, replaced.get(path.parent, info.modified)) < before:
            yield info


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    for narration_id in store.manifests.ids():
        found = store.manifests.read(narration_id)
        if found is not None:
            yield narration_id, load_manifest(found[0], name=f"narrations/{narration_id}/{_MANIFEST}")


def _named(manifest: Manifest) -> Iterator[str]:
    for chunk in manifest.chunks:
        yield chunk.digest
        yield from (take.digest for take in chunk.takes)
