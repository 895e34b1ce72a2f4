"""Pruning: find the clips and published files that nothing refers to any more, and delete them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from narration.manifest import Manifest, load_manifest
from narration.store import AllObjects, ManifestCollection, ObjectInfo, Store
from narration.store.layout import CLIPS, MANIFEST_NAME, NARRATIONS, digest_from_key, manifest_key
from narration.store.objects import PARALLEL_REQUESTS


@dataclass(frozen=True, slots=True)
class UnneededObject:
    """A stored object that nothing refers to, as it was listed, and why it is not needed."""

    info: ObjectInfo
    reason: str


def find_unneeded(store: Store, *, grace: timedelta) -> list[UnneededObject]:
    """Clips that no manifest, no take and no run in progress refers to, and superseded published files.

    Leaves out objects that were written within `grace`, and files that were superseded within it. Reads
    every manifest; raises `StoreRefused` when one cannot be read, since it may refer to any object.
    """
    before = datetime.now(UTC) - grace
    # Holds are read before manifests: the clips of a run that ends in between are then in one of the two.
    needed = store.holds.held_digests()
    manifests = _read_manifests(store.manifests)
    needed |= {digest for manifest in manifests for digest in _digests_of(manifest)}
    needed |= {record.digest for record in store.jobs.list()}
    published = {entry.key for manifest in manifests for entry in manifest.files}
    unneeded = [
        UnneededObject(info, "clip of no narration")
        for info in store.all_objects.list(CLIPS)
        if info.modified < before and digest_from_key(info.key) not in needed
    ]
    unneeded += [
        UnneededObject(info, "superseded")
        for info in _list_old_files(store.all_objects, before)
        if info.key not in published
    ]
    return sorted(unneeded, key=lambda entry: (not _is_sidecar(entry), entry.info.key))


def delete_unneeded(
    store: Store, shown: Sequence[UnneededObject], *, grace: timedelta
) -> list[UnneededObject]:
    """Delete those of `shown` that are still unneeded and unchanged; return the ones that are gone."""
    still_unneeded = {entry.info for entry in find_unneeded(store, grace=grace)}
    chosen = [entry for entry in shown if entry.info in still_unneeded]
    # A clip's sidecar is deleted before its audio, so that no sidecar is ever without its audio.
    sidecars = [entry for entry in chosen if _is_sidecar(entry)]
    others = [entry for entry in chosen if not _is_sidecar(entry)]
    return _delete_unchanged(store.all_objects, sidecars) + _delete_unchanged(store.all_objects, others)


def _delete_unchanged(objects: AllObjects, entries: Sequence[UnneededObject]) -> list[UnneededObject]:
    with ThreadPoolExecutor(PARALLEL_REQUESTS, "prune") as pool:
        are_gone = pool.map(lambda entry: objects.delete_if_unchanged(entry.info), entries)
        return [entry for entry, is_gone in zip(entries, are_gone, strict=True) if is_gone]


def _is_sidecar(entry: UnneededObject) -> bool:
    return entry.info.key.startswith(CLIPS) and entry.info.key.endswith(".json")


def _list_old_files(objects: AllObjects, before: datetime) -> Iterator[ObjectInfo]:
    """Published files that were written, and whose manifest was last replaced, before the time `before`."""
    files = list(objects.list(NARRATIONS))
    manifest_times = {
        PurePosixPath(info.key).parent: info.modified
        for info in files
        if PurePosixPath(info.key).name == MANIFEST_NAME
    }
    for info in files:
        path = PurePosixPath(info.key)
        manifest_time = manifest_times.get(path.parent, info.modified)
        if path.name != MANIFEST_NAME and max(info.modified, manifest_time) < before:
            yield info


def _read_manifests(collection: ManifestCollection) -> list[Manifest]:
    manifests = []
    for narration_id in collection.ids():
        stored = collection.read(narration_id)
        if stored is not None:
            manifests.append(load_manifest(stored.data, name=manifest_key(narration_id)))
    return manifests


def _digests_of(manifest: Manifest) -> Iterator[str]:
    """Digests of the clips of all takes of all chunks."""
    for chunk in manifest.chunks:
        yield chunk.digest
        yield from (take.digest for take in chunk.takes)
