"""Atomic file writes on Linux, macOS and Windows: a file appears complete or not at all."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STALE_SECONDS = 86_400  # a partial file this old belongs to a writer that died

_PARTIAL_SUFFIX = ".part"
_SHARING_TRIES = 10  # within about a second


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with the path of a partial file beside `path`, flush it to disk and rename it to `path`.

    A writer that is killed leaves the partial file behind: hidden, and recognized by `is_partial`.
    """
    _make_folder(path.parent)
    partial = partial_path(path)
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        retry_while_in_use(lambda: partial.replace(path))
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Return a new hidden name in the folder of `path`, for a file that is being written."""
    return path.with_name(f".{secrets.token_hex(8)}{_PARTIAL_SUFFIX}")


def is_partial(name: str) -> bool:
    """Whether `name` is one that `partial_path` makes."""
    return name.startswith(".") and name.endswith(_PARTIAL_SUFFIX)


def delete_if_stale(partial: Path) -> None:
    """Delete a partial file that has not been written to for a day."""
    try:
        if time.time() - partial.stat().st_mtime > STALE_SECONDS:
            partial.unlink()
    except OSError:
        return  # deleted by another process, or not permitted: a partial file is never listed anyway


def retry_while_in_use(operation: Callable[[], T]) -> T:
    """Call `operation`, again on `PermissionError`: on Windows, a file that another process has open."""
    for attempt in range(1, _SHARING_TRIES):
        try:
            return operation()
        except PermissionError:
            time.sleep(0.02 * attempt)
    return operation()


def _make_folder(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    """Flush a folder to disk, so that a rename in it survives a power cut; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
