"""What in the store nobody needs any more: found first, deleted only when told to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from narration.manifest import Manifest, load_manifest
from narration.store import Store
from narration.store.layout import CLIPS, NARRATIONS
from narration.store.runs import digest_of


@dataclass(frozen=True, slots=True)
class Unneeded:
    """An object that nothing names. `size` in bytes."""

    key: str
    size: int
    reason: str


def find_unneeded(store: Store, *, grace: timedelta) -> list[Unneeded]:
    """Clips that no manifest, no take and no run in progress names, and superseded masters and captions.

    Only what has not changed for `grace` counts. Reads every manifest; raises `StoreRefused`
    when one cannot be read, since it may name anything.
    """
    before = datetime.now(UTC) - grace
    needed = store.held_clips()  # before the manifests: a run that ends in between is then in one of both
    manifests = dict(_manifests(store))
    needed |= {digest for manifest in manifests.values() for digest in _named(manifest)}
    needed |= {record.digest for record in store.list_jobs()}
    published = {entry.key for manifest in manifests.values() for entry in manifest.files}
    found = [
        Unneeded(info.key, info.size, "clip of no narration")
        for info in store.everything_under(CLIPS)
        if info.modified < before and digest_of(info.key) not in needed
    ]
    found += [
        Unneeded(info.key, info.size, "superseded")
        for info in store.everything_under(NARRATIONS)
        if info.modified < before
        and PurePosixPath(info.key).name != "manifest.json"
        and info.key not in published
    ]
    # A clip's sidecar goes before its audio, so that it is at no moment there by half.
    return sorted(found, key=lambda entry: (not entry.key.endswith(".json"), entry.key))


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    for narration_id in store.list_narrations():
        found = store.read_manifest(narration_id)
        if found is not None:
            yield narration_id, load_manifest(found[0], name=f"narrations/{narration_id}/manifest.json")


def _named(manifest: Manifest) -> Iterator[str]:
    for chunk in manifest.chunks:
        yield chunk.digest
        yield from (take.digest for take in chunk.takes)
