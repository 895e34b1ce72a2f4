"""The ways in which a stored clip is damaged behind the store's back."""

from __future__ import annotations

from collections.abc import Callable

from faults.stored_objects import StoredObjects


def flip_a_bit(flac: bytes) -> bytes:
    """The same bytes but for one bit of the audio."""
    return flac[:500] + bytes([flac[500] ^ 1]) + flac[501:]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _sidecar(clip: str) -> str:
    return clip.replace(".flac", ".json")


def _copy_sidecar_of_another(stored: StoredObjects, clip: str) -> None:
    others = set(stored.keys("/clips/", ".json")) - {_sidecar(clip)}
    stored.replace(_sidecar(clip), lambda _: stored.read(min(others)))


DAMAGES: dict[str, Callable[[StoredObjects, str], object]] = {
    "flipped": lambda stored, clip: stored.replace(clip, flip_a_bit),
    "truncated": lambda stored, clip: stored.replace(clip, _half),
    "emptied": lambda stored, clip: stored.replace(clip, lambda _: b""),
    "sidecar missing": lambda stored, clip: stored.delete(_sidecar(clip)),
    "sidecar of another": _copy_sidecar_of_another,
    "sidecar truncated": lambda stored, clip: stored.replace(_sidecar(clip), _half),
    "missing": lambda stored, clip: stored.delete(clip),
}
"""By name: damages the clip whose audio has the given key."""
