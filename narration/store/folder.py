"""The object store in a folder, on this machine or mounted by several machines."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from narration.errors import Damaged, ManifestConflict, StoreError, StoreRefused, StoreUnavailable
from narration.store.atomic import (
    delete_if_stale,
    is_partial,
    partial_path,
    retry_while_in_use,
    write_atomically,
)
from narration.store.keys import check_key, is_key
from narration.store.lock import exclusive
from narration.store.objects import ObjectInfo, StoredObject

_LOCK = ".lock"
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TRANSIENT = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
)


class FolderObjectStore:
    """Objects as files below the folder `root`, which the first write creates. An etag is a SHA-256."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.location = str(self.root)
        if self.root.exists() and not self.root.is_dir():
            raise StoreRefused(f"the store {self.root} is not a folder", remedy="name a folder")

    def get(self, key: str) -> StoredObject | None:
        """Return the object, or None."""
        path = self._path(key)
        with self._translated_errors("read"):
            data = retry_while_in_use(lambda: _read(path))
        return None if data is None else StoredObject(data, hashlib.sha256(data).hexdigest())

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's size and time, or None."""
        path = self._path(key)
        with self._translated_errors("read"):
            return _info(key, path)

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 of the bytes on the disk."""
        path = self._path(key)
        with self._translated_errors("read"):
            return retry_while_in_use(lambda: _sha256(path))

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,  # noqa: ARG002  files have no content type
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Write the object; a conditional write compares and replaces while it holds the store's lock."""
        path = self._path(key)
        with self._translated_errors("write"):
            if if_match is None and not if_none_match:
                write_atomically(path, lambda partial: partial.write_bytes(data))
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                with exclusive(self.root / _LOCK):
                    if retry_while_in_use(lambda: _sha256(path)) != if_match:
                        raise ManifestConflict(f"{path} changed since it was read", remedy="try again")
                    write_atomically(path, lambda partial: partial.write_bytes(data))
        return hashlib.sha256(data).hexdigest()

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:  # noqa: ARG002  as above
        """Write a copy of the file at `path`."""
        target = self._path(key)
        with self._translated_errors("write"):
            write_atomically(target, lambda partial: shutil.copyfile(path, partial))

    def get_file(self, key: str, path: Path) -> None:
        """Copy the object to `path`."""
        source = self._path(key)
        partial = partial_path(path)
        with self._translated_errors("read"):
            try:
                shutil.copyfile(source, partial)
                partial.replace(path)
            except FileNotFoundError:
                raise Damaged(f"{source} is missing") from None
            finally:
                partial.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below the folder `prefix`.

        Leaves out files whose path is not a key. Partial files of killed writers are among them; those
        that are a day old are deleted here.
        """
        start = self._path(prefix.removesuffix("/"))
        with self._translated_errors("list"):
            for parent, folders, names in os.walk(start, onerror=_raise_unless_missing):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(parent, name)
                    key = path.relative_to(self.root).as_posix()
                    if is_partial(name):
                        delete_if_stale(path)
                    elif is_key(key) and (info := _info(key, path)):
                        yield info

    def delete(self, key: str) -> None:
        """Delete the file; its folder stays."""
        path = self._path(key)
        with self._translated_errors("delete"):
            retry_while_in_use(lambda: path.unlink(missing_ok=True))

    def link(self, key: str, *, seconds: int) -> str:  # noqa: ARG002  a file's URI does not expire
        """Return the file's URI."""
        return self._path(key).as_uri()

    def free_bytes(self) -> int | None:
        """Return the free space on the disk in bytes."""
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        with self._translated_errors("measure the free space"):
            return shutil.disk_usage(existing).free

    def supports_conditional_put(self) -> bool:
        """True: the lock keeps concurrent writers apart."""
        return True

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*check_key(key).split("/"))

    @contextmanager
    def _translated_errors(self, action: str) -> Iterator[None]:
        """Raise an `OSError` of the block as `StoreUnavailable` or `StoreRefused`, with a remedy."""
        try:
            yield
        except OSError as error:
            raise self._translate(action, error) from None

    def _translate(self, action: str, error: OSError) -> StoreError:
        if error.errno in _DISK_FULL:
            return StoreRefused(
                f"the store {self.root} has no room left",
                remedy="free some, or set NARRATION_STORE to another folder",
            )
        reason = f"cannot {action} in the store {self.root}: {error.strerror or error}"
        if error.errno in _TRANSIENT:
            return StoreUnavailable(reason, remedy="try again")
        return StoreRefused(
            reason, remedy="make the folder readable and writable, or set NARRATION_STORE to another"
        )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _info(key: str, path: Path) -> ObjectInfo | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _raise_unless_missing(error: OSError) -> None:
    """Let `os.walk` skip a folder that does not exist, and fail on any other error."""
    if not isinstance(error, FileNotFoundError):
        raise error
