"""A store in a folder: errors of the disk, partial files, and files in use."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

import pytest
from support.stores import DIGEST, digest_of, put_clip

from narration.errors import StoreError, StoreRefused, StoreUnavailable
from narration.store import atomic, open_store
from narration.store.layout import audio_key, sidecar_key


def test_reading_creates_no_folder(folder: Path) -> None:
    """Reading from a store that does not exist yet leaves no trace."""
    store = open_store(str(folder))
    assert store.clips.find(DIGEST) is None
    assert store.manifests.ids() == []
    assert not folder.exists()


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The error names the path."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreRefused, match=r"file is not a folder"):
        open_store(str(file))
    with pytest.raises(StoreRefused, match="Not a directory"):
        open_store(str(file / "below")).check_writable()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StoreRefused, "no room left"),
        (errno.EDQUOT, StoreRefused, "no room left"),
        (errno.EROFS, StoreRefused, "Read-only file system"),
        (errno.EACCES, StoreRefused, "Permission denied"),
        (errno.EIO, StoreUnavailable, "Input/output error"),
        (errno.EMFILE, StoreUnavailable, "Too many open files"),
    ],
)
def test_each_error_of_the_disk_is_explained(
    number: int, kind: type[StoreError], words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the folder and a remedy, and no partial file is left."""
    store = open_store(str(folder))
    put_clip(store)

    def fail(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(kind, match=words) as refusal:
        put_clip(store, digest_of("another"))
    assert str(folder) in str(refusal.value)
    assert refusal.value.remedy
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2


def test_a_read_only_folder_is_refused(folder: Path) -> None:
    """The write check fails; it runs as a user who is not root, whom file modes do not stop."""
    folder.mkdir()
    for path in takewhile(lambda path: path.name.startswith(("test_", "popen-", "pytest-")), folder.parents):
        path.chmod(0o755)
    folder.chmod(0o555)
    code = (
        "import os, sys\n"
        "from narration.store import open_store\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    open_store(sys.argv[1]).check_writable()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False, cwd="/"
    )
    folder.chmod(0o755)
    assert done.stdout.startswith("StoreRefused cannot write in the store"), done.stderr
    assert "Permission denied" in done.stdout


def test_a_nearly_full_disk_fails_the_write_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk would fill up during the narration, so it is refused before the first clip is paid for."""
    monkeypatch.setattr("narration.store.store.MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(StoreRefused, match="MB of room left"):
        open_store(str(folder)).check_writable()


def test_partial_files_are_never_listed_and_deleted_after_a_day(folder: Path) -> None:
    """A partial file of a killed writer is not an object, and the next listing after a day deletes it."""
    store = open_store(str(folder))
    put_clip(store)
    fresh, stale = (atomic.partial_path(folder / audio_key(DIGEST)) for _ in range(2))
    for partial in (fresh, stale):
        partial.write_bytes(b"half")
    long_ago = time.time() - atomic.STALE_SECONDS - 60
    os.utime(stale, (long_ago, long_ago))
    assert {info.key for info in store.all_objects.list("clips/")} == {audio_key(DIGEST), sidecar_key(DIGEST)}
    assert fresh.exists()
    assert not stale.exists()


def test_a_file_in_use_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace a file while another process reads it, so replacing is tried again."""
    store = open_store(str(folder))
    refused: list[Path] = []
    replace = Path.replace

    def refuse_twice(self: Path, target: Path) -> Path:
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_twice)
    store.manifests.replace("intro", b"1", if_match=None)
    assert len(refused) == 2
    monkeypatch.undo()
    assert store.manifests.read("intro") is not None
