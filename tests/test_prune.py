"""Pruning: unneeded clips and files are found and shown, and deleted only on request."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from support.deployments import FLOWS_HERE, FlowWorkspace
from test_retake import FIRST, FOUR, OTHERWISE, SECOND

from flows.narrate import narrate
from flows.prune import prune
from flows.retake import retake
from narration.errors import StoreRefused
from narration.pruning import delete_unneeded, find_unneeded

pytestmark = FLOWS_HERE

ID = "four-draft"
DAY = 86_400.0


def grow_old(workspace: FlowWorkspace, days: float = 8) -> None:
    """Set the time of every file in the store to `days` ago."""
    for path in files(workspace):
        os.utime(path, (time.time() - days * DAY,) * 2)


def files(workspace: FlowWorkspace) -> list[Path]:
    """Every object in the store."""
    return sorted(path for path in workspace.folder.rglob("*") if path.is_file())


def clips(workspace: FlowWorkspace) -> int:
    """The number of intact clips."""
    digests = {path.stem for path in (workspace.folder / "clips").rglob("*") if path.is_file()}
    return len(workspace.store.clips.find_many(digests))


async def edited() -> None:
    """A narration that was retaken and then edited, so that one clip and one master are unneeded."""
    await narrate(narration_id="four", text=FOUR)
    await retake(narration_id="four", chunks=[1])
    await narrate(narration_id="four", text=FOUR.replace(SECOND, OTHERWISE))


async def test_unneeded_objects_are_shown_and_then_deleted(workspace: FlowWorkspace) -> None:
    """By default nothing is deleted; on request, the clip and the superseded files are."""
    await workspace.after(edited)
    grow_old(workspace)
    before = files(workspace)
    shown = await prune()
    assert files(workspace) == before
    assert shown["deleted"] is False
    assert (await prune(really_delete=True))["objects"] == shown["objects"]
    assert len(before) - len(files(workspace)) == shown["objects"]
    named = {entry["key"] for entry in workspace.manifest(ID)["files"]}
    left = {
        path.relative_to(workspace.folder).as_posix()
        for path in (workspace.folder / "narrations" / ID).iterdir()
    }
    assert left == named | {f"narrations/{ID}/manifest.json"}
    assert len(left) < sum(path.parent.name == ID for path in before)
    assert clips(workspace) == 5  # four current ones, and the first take of the first chunk
    assert (await prune())["objects"] == 0


async def test_a_take_that_is_not_current_is_kept(workspace: FlowWorkspace) -> None:
    """After pruning, `--take 1` finds the clip of the first take and submits no job."""
    await workspace.after(edited)
    grow_old(workspace)
    await prune(really_delete=True)
    await retake(narration_id="four", chunks=[1], take=1)
    assert workspace.manifest(ID)["chunks"][0]["text"] == FIRST
    assert workspace.endpoint.submitted == []


async def test_objects_written_within_the_grace_period_are_kept(workspace: FlowWorkspace) -> None:
    """Objects younger than `grace_days` are not found, older ones are."""
    await workspace.after(edited)
    grow_old(workspace, days=6.9)
    assert (await prune(really_delete=True))["objects"] == 0
    assert (await prune(grace_days=6))["objects"] > 0


async def test_files_superseded_within_the_grace_period_are_kept(workspace: FlowWorkspace) -> None:
    """The time since the manifest was replaced counts: a player may still use an old master."""
    await narrate(narration_id="four", text=FOUR)
    grow_old(workspace)
    old = {entry["key"] for entry in workspace.manifest(ID)["files"]}
    await narrate(narration_id="four", text=FOUR.replace(SECOND, OTHERWISE))
    assert not old & {entry["key"] for entry in workspace.manifest(ID)["files"]}
    assert not old & {entry.info.key for entry in find_unneeded(workspace.store, grace=timedelta(days=7))}
    grow_old(workspace)
    assert old <= {entry.info.key for entry in find_unneeded(workspace.store, grace=timedelta(days=7))}


async def test_objects_that_are_needed_again_are_not_deleted(workspace: FlowWorkspace) -> None:
    """A narration that goes back to an earlier text after the listing keeps its clips and files."""
    await workspace.after(edited)
    grow_old(workspace)
    unneeded = find_unneeded(workspace.store, grace=timedelta(days=7))
    assert unneeded
    await retake(narration_id="four", chunks=[1], take=1)
    await narrate(narration_id="four", text=FOUR)
    assert delete_unneeded(workspace.store, unneeded, grace=timedelta(days=7)) == []
    for entry in workspace.manifest(ID)["files"]:
        assert workspace.store.files.has(entry["key"], entry["size"])
    assert clips(workspace) == 6


async def test_a_file_published_again_is_not_deleted(workspace: FlowWorkspace) -> None:
    """Publishing renews a file's time, by which deletion sees that it was written since it was listed."""
    await narrate(narration_id="four", text=FOUR)
    (first,) = (entry["key"] for entry in workspace.manifest(ID)["files"] if entry["kind"] == "srt")
    await narrate(narration_id="four", text=FOUR.replace(SECOND, OTHERWISE))
    grow_old(workspace)
    listed = {entry.info.key: entry.info for entry in find_unneeded(workspace.store, grace=timedelta(days=7))}
    await narrate(narration_id="four", text=FOUR)
    assert not workspace.store.all_objects.delete_if_unchanged(listed[first])
    assert (workspace.folder / first).exists()


async def test_clips_of_a_run_in_progress_are_kept(workspace: FlowWorkspace) -> None:
    """A run holds the clips of its plan until it ends, whether a manifest names them or not."""
    await workspace.after(edited)
    grow_old(workspace)
    stored = {path.stem for path in (workspace.folder / "clips").rglob("*.json")}
    orphan = stored - {
        take["digest"] for chunk in workspace.manifest(ID)["chunks"] for take in chunk["takes"]
    }
    workspace.store.holds.hold("a-run", orphan)
    await prune(really_delete=True)
    assert clips(workspace) == 6
    workspace.store.holds.release("a-run")
    await prune(really_delete=True)
    assert clips(workspace) == 5


async def test_nothing_is_deleted_while_a_manifest_cannot_be_read(workspace: FlowWorkspace) -> None:
    """An unreadable manifest may name any clip or file."""
    await workspace.after(edited)
    grow_old(workspace)
    other = workspace.folder / "narrations" / "other" / "manifest.json"
    other.parent.mkdir()
    other.write_text('{"schema_version": 99}')
    before = files(workspace)
    with pytest.raises(StoreRefused, match="schema version 99"):
        await prune(really_delete=True)
    assert files(workspace) == before


async def test_scripts_voices_and_the_inbox_are_never_touched(workspace: FlowWorkspace) -> None:
    """Pruning deletes under `clips/` and `narrations/` only."""
    await workspace.after(edited)
    for name in ("inbox/waiting.md", "rejected/bad.md", "voices/mine/voice.json", "notes.txt"):
        path = workspace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Kept.")
    grow_old(workspace, days=400)
    kept = [
        path
        for path in files(workspace)
        if path.relative_to(workspace.folder).parts[0] not in {"clips", "narrations"}
    ]
    await prune(really_delete=True)
    assert set(kept) <= set(files(workspace))
