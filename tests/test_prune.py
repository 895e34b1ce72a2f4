"""Pruning: what nobody needs is found, shown, and deleted only when told to."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from support.deployments import FLOWS_HERE, Shelf
from test_retake import FIRST, FOUR, OTHERWISE, SECOND

from flows.narrate import narrate
from flows.prune import prune
from flows.retake import retake
from narration.errors import StoreRefused
from narration.pruning import delete_unneeded, find_unneeded

pytestmark = FLOWS_HERE

ID = "four-draft"
DAY = 86_400.0


def grow_old(shelf: Shelf, days: float = 8) -> None:
    """Everything in the store was last changed so long ago."""
    for path in files(shelf):
        os.utime(path, (time.time() - days * DAY,) * 2)


def files(shelf: Shelf) -> list[Path]:
    """Every object in the store."""
    return sorted(path for path in shelf.folder.rglob("*") if path.is_file())


def clips(shelf: Shelf) -> int:
    """How many clips there are, whole."""
    digests = {path.stem for path in (shelf.folder / "clips").rglob("*") if path.is_file()}
    return len(shelf.store.clips.find_many(digests))


async def edited() -> None:
    """A narration, retaken and then edited: one clip and one master belong to nothing any more."""
    await narrate(narration_id="four", text=FOUR)
    await retake(narration_id="four", chunks=[1])
    await narrate(narration_id="four", text=FOUR.replace(SECOND, OTHERWISE))


async def test_what_nobody_names_is_shown_and_then_deleted(shelf: Shelf) -> None:
    """A dry run by default; what is deleted is the clip and the files of narrations that were replaced."""
    await shelf.after(edited)
    grow_old(shelf)
    before = files(shelf)
    shown = await prune()
    assert files(shelf) == before
    assert shown["deleted"] is False
    assert (await prune(really_delete=True))["objects"] == shown["objects"]
    assert len(before) - len(files(shelf)) == shown["objects"]
    named = {entry["key"] for entry in shelf.manifest(ID)["files"]}
    left = {
        path.relative_to(shelf.folder).as_posix() for path in (shelf.folder / "narrations" / ID).iterdir()
    }
    assert left == named | {f"narrations/{ID}/manifest.json"}
    assert len(left) < sum(path.parent.name == ID for path in before)
    assert clips(shelf) == 5  # four current ones, and the first take of the first chunk
    assert (await prune())["objects"] == 0


async def test_a_take_that_is_not_current_is_kept(shelf: Shelf) -> None:
    """`--take 1` still works after pruning, without a job."""
    await shelf.after(edited)
    grow_old(shelf)
    await prune(really_delete=True)
    await retake(narration_id="four", chunks=[1], take=1)
    assert shelf.manifest(ID)["chunks"][0]["text"] == FIRST
    assert shelf.endpoint.submitted == []


async def test_what_changed_lately_is_left_alone(shelf: Shelf) -> None:
    """The grace period is for readers of the old narration, and for those who change their mind."""
    await shelf.after(edited)
    grow_old(shelf, days=6.9)
    assert (await prune(really_delete=True))["objects"] == 0
    assert (await prune(grace_days=6))["objects"] > 0


async def test_what_was_superseded_lately_is_left_alone(shelf: Shelf) -> None:
    """However old a master is, who read its manifest a minute ago may still be playing it."""
    await narrate(narration_id="four", text=FOUR)
    grow_old(shelf)
    old = {entry["key"] for entry in shelf.manifest(ID)["files"]}
    await narrate(narration_id="four", text=FOUR.replace(SECOND, OTHERWISE))
    assert not old & {entry["key"] for entry in shelf.manifest(ID)["files"]}
    assert not old & {entry.info.key for entry in find_unneeded(shelf.store, grace=timedelta(days=7))}
    grow_old(shelf)
    assert old <= {entry.info.key for entry in find_unneeded(shelf.store, grace=timedelta(days=7))}


async def test_what_is_needed_again_by_then_is_not_deleted(shelf: Shelf) -> None:
    """Between looking and deleting lie minutes: a narration may go back to what it was."""
    await shelf.after(edited)
    grow_old(shelf)
    found = find_unneeded(shelf.store, grace=timedelta(days=7))
    assert found
    await retake(narration_id="four", chunks=[1], take=1)
    await narrate(narration_id="four", text=FOUR)
    assert delete_unneeded(shelf.store, found, grace=timedelta(days=7)) == []
    for entry in shelf.manifest(ID)["files"]:
        assert shelf.store.files.has(entry["key"], entry["size"])
    assert clips(shelf) == 6


async def test_a_file_published_again_is_young_again(shelf: Shelf) -> None:
    """Pruning that looked before it was named again finds, at the deletion, that it was written since."""
    await narrate(narration_id="four", text=FOUR)
    (first,) = (entry["key"] for entry in shelf.manifest(ID)["files"] if entry["kind"] == "srt")
    await narrate(narration_id="four", text=FOUR.replace(SECOND, OTHERWISE))
    grow_old(shelf)
    seen = {entry.info.key: entry.info for entry in find_unneeded(shelf.store, grace=timedelta(days=7))}
    await narrate(narration_id="four", text=FOUR)
    assert not shelf.store.all_objects.delete_if_unchanged(seen[first])
    assert (shelf.folder / first).exists()


async def test_clips_of_a_run_in_progress_are_left_alone(shelf: Shelf) -> None:
    """A run holds what its plan found, published or not, until it ends."""
    await shelf.after(edited)
    grow_old(shelf)
    found = {path.stem for path in (shelf.folder / "clips").rglob("*.json")}
    orphan = found - {take["digest"] for chunk in shelf.manifest(ID)["chunks"] for take in chunk["takes"]}
    shelf.store.holds.hold("a-run", orphan)
    await prune(really_delete=True)
    assert clips(shelf) == 6
    shelf.store.holds.release("a-run")
    await prune(really_delete=True)
    assert clips(shelf) == 5


async def test_nothing_is_pruned_beside_a_manifest_that_cannot_be_read(shelf: Shelf) -> None:
    """It may name anything."""
    await shelf.after(edited)
    grow_old(shelf)
    other = shelf.folder / "narrations" / "other" / "manifest.json"
    other.parent.mkdir()
    other.write_text('{"schema_version": 99}')
    before = files(shelf)
    with pytest.raises(StoreRefused, match="schema version 99"):
        await prune(really_delete=True)
    assert files(shelf) == before


async def test_scripts_voices_and_the_inbox_are_never_touched(shelf: Shelf) -> None:
    """Pruning knows two kinds of things, and what a person put there is neither."""
    await shelf.after(edited)
    for name in ("inbox/waiting.md", "rejected/bad.md", "voices/mine/voice.json", "notes.txt"):
        path = shelf.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Kept.")
    grow_old(shelf, days=400)
    kept = [
        path
        for path in files(shelf)
        if path.relative_to(shelf.folder).parts[0] not in {"clips", "narrations"}
    ]
    await prune(really_delete=True)
    assert set(kept) <= set(files(shelf))
