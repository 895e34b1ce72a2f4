"""The lock that lets one writer at a time replace an object in a folder, among threads and processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from narration.errors import StoreRefused, StoreUnavailable

WAIT_SECONDS = 30.0

_POLL_SECONDS = 0.01  # about as long as a writer holds the lock


@contextmanager
def exclusive(path: Path, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock on the file at `path`, which is created where it is missing and never deleted.

    The operating system holds the lock (flock, LockFileEx) and releases it when the process dies. A
    file system that has no such locks is refused: filelock's substitute, a file that a holder creates and
    deletes, would outlive a killed holder.

    Raises `StoreUnavailable` when another writer holds the lock for `wait_seconds`, `StoreRefused` where
    the file cannot be locked.
    """
    lock = FileLock(
        path,
        timeout=wait_seconds,
        poll_interval=_POLL_SECONDS,
        fallback_to_soft=False,
        preserve_lock_file=True,
    )
    try:
        lock.acquire()
    except Timeout:
        raise StoreUnavailable(
            f"another writer has held {path} for {wait_seconds:g} s", remedy="try again"
        ) from None
    except OSError as error:
        raise StoreRefused(
            f"cannot lock {path}: {error.strerror or error}",
            remedy="make the store's folder writable, on a disk that supports file locks",
        ) from None
    try:
        yield
    finally:
        lock.release()
