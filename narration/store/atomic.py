"""Files that appear whole or not at all, on Linux, macOS and Windows."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STALE_SECONDS = 86_400  # after which a partial file has no writer any more

_PARTIAL = ".part"
_SHARING_TRIES = 10  # in about a second


def place(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, and put it there once it is on the disk.

    Whoever dies half way leaves a partial file behind: hidden, and known by `is_partial`.
    """
    _make_folder(path.parent)
    partial = partial_beside(path)
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        patiently(lambda: partial.replace(path))
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def partial_beside(path: Path) -> Path:
    """Return a new hidden name in the folder of `path`, for a file that is being written."""
    return path.with_name(f".{secrets.token_hex(8)}{_PARTIAL}")


def is_partial(name: str) -> bool:
    """Whether a file of this name is one that was being written."""
    return name.startswith(".") and name.endswith(_PARTIAL)


def drop_if_stale(partial: Path) -> None:
    """Delete a partial file that nobody has written to for a day."""
    try:
        if time.time() - partial.stat().st_mtime > STALE_SECONDS:
            partial.unlink()
    except OSError:
        return  # deleted by another, or not ours to delete: it stays unseen either way


def patiently(action: Callable[[], T]) -> T:
    """Do `action`, again where it is refused: Windows refuses while somebody has the file open."""
    for tried in range(1, _SHARING_TRIES):
        try:
            return action()
        except PermissionError:
            time.sleep(0.02 * tried)
    return action()


def _make_folder(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    """Make a rename outlast a power cut; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
