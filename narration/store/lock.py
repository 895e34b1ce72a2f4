"""A lock between processes on any system, which the operating system frees when its holder dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from narration.errors import StoreRefused, StoreUnavailable

WAIT_SECONDS = 30.0


@contextmanager
def exclusive(path: Path, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock named by the file at `path`, which stays behind, empty.

    SQLite's file lock serves here because it is the one in the standard library that works
    alike on Linux, macOS and Windows, between threads too, and is gone with its process: a
    lock file made with O_EXCL outlives a killed writer, and judging its age is a race.

    Raises `StoreUnavailable` after `wait_seconds`, `StoreRefused` where no lock can be had.
    """
    try:
        connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise _refusal(path, error) from None
    with closing(connection):
        try:
            connection.execute("PRAGMA journal_mode=OFF")  # nothing is ever written, or left behind
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StoreUnavailable(
                    f"another writer has held {path} for {wait_seconds:g} s", remedy="try again"
                ) from None
            raise _refusal(path, error) from None
        yield


def _refusal(path: Path, error: sqlite3.Error) -> StoreRefused:
    return StoreRefused(
        f"cannot lock {path}: {error}",
        remedy="make the store's folder writable, on a disk that can lock files",
    )
