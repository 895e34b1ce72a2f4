"""The lock of a store in a folder: one holder at a time, released when its process is killed."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from narration.errors import StoreRefused, StoreUnavailable
from narration.store.lock import exclusive


def test_the_lock_is_released_when_its_holder_is_killed(tmp_path: Path) -> None:
    """A writer gives up while another process holds the lock, and gets it once that process is killed."""
    lock = tmp_path / ".lock"
    code = (
        "import sys, time; from pathlib import Path; from narration.store.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreUnavailable, match="another writer"), exclusive(lock, wait_seconds=0.2):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with exclusive(lock, wait_seconds=2):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]


def test_two_threads_of_a_process_never_hold_the_lock_together(tmp_path: Path) -> None:
    """A second thread gives up after its wait while the first holds the lock, and gets it afterwards."""
    lock = tmp_path / ".lock"
    outcomes: list[str] = []

    def hold_in_thread() -> None:
        try:
            with exclusive(lock, wait_seconds=0.1):
                outcomes.append("held")
        except StoreUnavailable:
            outcomes.append("refused")

    with exclusive(lock):
        second = threading.Thread(target=hold_in_thread)
        second.start()
        second.join()
    hold_in_thread()
    assert outcomes == ["refused", "held"]


def test_a_file_that_cannot_be_locked_is_a_refusal(tmp_path: Path) -> None:
    """Without a lock no manifest is replaced; here the lock's path is a folder, which cannot be opened."""
    (tmp_path / ".lock").mkdir()
    with pytest.raises(StoreRefused, match="cannot lock"), exclusive(tmp_path / ".lock"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_a_file_system_without_locks_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock file that a killed holder would leave behind is used instead."""
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with (
        pytest.raises(StoreRefused, match=r"cannot lock .*Function not implemented"),
        exclusive(tmp_path / ".lock"),
    ):
        pass


def test_the_lock_file_of_version_0_1_0_is_locked_like_any_other(tmp_path: Path) -> None:
    """Existing stores have an empty file that SQLite created; locking it leaves its bytes as they are."""
    lock = tmp_path / ".lock"
    with closing(sqlite3.connect(lock, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("BEGIN EXCLUSIVE")
    before = lock.read_bytes()
    with exclusive(lock, wait_seconds=1):
        with pytest.raises(StoreUnavailable), exclusive(lock, wait_seconds=0.1):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert lock.read_bytes() == before
