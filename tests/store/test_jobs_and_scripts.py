"""Job records and scripts in a folder and in S3."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.stores import DIGEST, digest_of

from narration.errors import ScriptError, SettingsError
from narration.store import JobRecord, ObjectStore, Store, open_store
from narration.store.layout import job_key


def _record(digest: str = DIGEST, **changes: Any) -> JobRecord:
    fields = {"digest": digest, "endpoint": "e", "job_id": "j-1", "submitted_at": "2026-11-22T10:00:00+00:00"}
    return JobRecord.model_validate({**fields, "attempt": 1, "seed": 5, "run": "r", **changes})


def test_the_last_job_of_a_clip_is_recorded(store: Store) -> None:
    """A record replaces the earlier one, is found by its digest, and can be deleted, twice too."""
    assert store.jobs.find(DIGEST) is None
    store.jobs.put(_record())
    store.jobs.put(_record(job_id="j-2"))
    assert store.jobs.find(DIGEST) == _record(job_id="j-2")
    other = digest_of("other")
    store.jobs.put(_record(other))
    assert {job.digest for job in store.jobs.list()} == {DIGEST, other}
    store.jobs.delete(DIGEST)
    store.jobs.delete(DIGEST)
    assert [job.digest for job in store.jobs.list()] == [other]


def test_an_unreadable_job_record_is_a_missing_one(store: Store, objects: ObjectStore) -> None:
    """A truncated record, or one of another digest, is not found and not listed."""
    for data in (b"", b"{", b"[]", _record(digest_of("other")).model_dump_json().encode()):
        objects.put(job_key(DIGEST), data, content_type="application/json")
        assert store.jobs.find(DIGEST) is None
        assert list(store.jobs.list()) == []


def test_a_script_is_stored_by_its_content(store: Store) -> None:
    """The key is made of the script's SHA-256, and reading it returns the script's bytes."""
    key = store.scripts.put("# Ünïcode\n".encode(), ".md")
    assert key == f"scripts/{digest_of('# Ünïcode' + chr(10))}.md"
    assert store.scripts.put("# Ünïcode\n".encode(), ".md") == key
    assert store.scripts.read(key) == "# Ünïcode\n".encode()


def test_a_missing_or_huge_script_is_refused_by_its_key(store: Store, objects: ObjectStore) -> None:
    """The error of a script that is missing, or larger than allowed, names its key."""
    with pytest.raises(ScriptError, match=r"no script inbox/none\.md \(put it there"):
        store.scripts.read("inbox/none.md")
    objects.put("inbox/long.md", b"x" * 101, content_type="text/plain")
    with pytest.raises(ScriptError, match="101 bytes are more than the 100"):
        store.scripts.read("inbox/long.md", max_bytes=100)


@pytest.mark.parametrize(
    "key",
    [
        "voices/default/voice.json",
        "../secret",
        "scripts/../../x",
        "/etc/passwd",
        "inbox",
        "",
        "scripts\\x",
        "inbox/.env",
    ],
)
def test_only_keys_of_scripts_are_read_as_scripts(key: str, folder: Path) -> None:
    """A key outside `scripts/` and `inbox/` raises `SettingsError`."""
    store = open_store(str(folder))
    with pytest.raises(SettingsError):
        store.scripts.read(key)


def test_the_inbox_lists_its_scripts(store: Store, objects: ObjectStore) -> None:
    """File names of people and subfolders are listed, with size and time."""
    for name in ("inbox/Kapitel 1.md", "inbox/series/two.txt"):
        objects.put(name, b"x" * 7, content_type="text/plain")
    scripts = store.scripts.list_inbox()
    assert {info.key for info in scripts} == {"inbox/Kapitel 1.md", "inbox/series/two.txt"}
    assert all(info.size == 7 for info in scripts)
    assert all(abs(info.modified.timestamp() - time.time()) < 60 for info in scripts)


def test_a_rejected_script_is_moved_with_its_reason(store: Store, objects: ObjectStore) -> None:
    """It goes to `rejected/` with its reason beside it, and a second script of its name is kept too."""
    moved = []
    for words in (b"first", b"second"):
        objects.put("inbox/a/b.md", words, content_type="text/plain")
        moved.append(store.scripts.reject("inbox/a/b.md", "no words in it"))
        assert store.scripts.list_inbox() == []
    assert len(set(moved)) == 2
    for key, words in zip(moved, (b"first", b"second"), strict=True):
        assert key.startswith("rejected/a/b-")
        script, reason = objects.get(key), objects.get(key.replace(".md", ".reason.txt"))
        assert script is not None
        assert script.data == words
        assert reason is not None
        assert reason.data == b"no words in it\n"


def test_scripts_with_names_of_any_length_can_be_rejected(store: Store, objects: ObjectStore) -> None:
    """The longest name that the inbox allows fits in `rejected/` too."""
    for name in ("ä" * 110 + ".md", "a." + "b" * 200, "x .md y"):
        objects.put(f"inbox/{name}", b"x", content_type="text/plain")
        store.scripts.reject(f"inbox/{name}", "why")
    assert store.scripts.list_inbox() == []


def test_only_scripts_of_the_inbox_can_be_rejected(store: Store) -> None:
    """No other key can be moved by rejecting it."""
    key = store.scripts.put(b"words", ".md")
    for wrong in (key, "inbox/../scripts/x", "inbox/none.md"):
        with pytest.raises((SettingsError, ScriptError)):
            store.scripts.reject(wrong, "why")
    assert store.scripts.read(key) == b"words"
