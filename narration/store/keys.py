"""Which strings may be keys in a store: valid on S3 and as file names on Linux, macOS and Windows."""

from __future__ import annotations

import re

from narration.errors import SettingsError

_WINDOWS_DEVICES = re.compile(r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u2028-\u202e\u2066-\u2069]')  # controls, and Windows'
_MAX_KEY_BYTES = 900  # S3 allows 1,024, of which the store's prefix takes some
_MAX_NAME_BYTES = 240  # file systems allow 255; names of partial files must fit too


def check_key(key: str) -> str:
    """Return `key` if every backend and operating system can store an object under it.

    A key is slash-separated names, each a plain file name. Raises `SettingsError` for a key that leads
    out of the store (`..`), for hidden files, for Windows' devices, drives and streams, and for characters
    that control a terminal or reverse the direction of a line.
    """
    try:
        sizes = [len(name.encode()) for name in key.split("/")]
    except UnicodeEncodeError:
        raise SettingsError(f"{key!r} cannot be a key in the store: it holds a lone surrogate") from None
    if sum(sizes) + len(sizes) > _MAX_KEY_BYTES or max(sizes) > _MAX_NAME_BYTES:
        raise SettingsError(f"{key[:80]!r}... is too long for a key in the store")
    for name in key.split("/"):
        if not name or name.startswith(".") or name.endswith((".", " ")):
            raise SettingsError(f"{key!r} cannot be a key in the store: {name!r} is not a plain file name")
        if _FORBIDDEN.search(name) or _WINDOWS_DEVICES.fullmatch(name):
            raise SettingsError(
                f"{key!r} cannot be a key in the store: {name!r} is not a file name on Windows"
            )
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` accepts `key`."""
    try:
        check_key(key)
    except SettingsError:
        return False
    return True
