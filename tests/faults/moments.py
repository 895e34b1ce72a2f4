"""What may come over a narration: when it is cancelled or killed, and what becomes of its clips."""

from __future__ import annotations

from collections.abc import Callable

from faults.matrix import CLIP, MANIFEST, RECORD, SIDECAR
from faults.scene import Moment, Scene

PHASES = {
    "planning": Moment("s3", "GET", MANIFEST),
    "the preflight": Moment("s3", "PUT", "/probe-"),
    "submitting": Moment("client", "POST", "/run$", 1),
    "recording a job": Moment("s3", "PUT", RECORD, 1),
    "waiting for a job": Moment("client", "GET", "/status/", 2),  # of four looks at least, one at each job
    "storing a clip": Moment("s3", "PUT", CLIP, 1),
    "storing a sidecar": Moment("s3", "PUT", SIDECAR, 1),
    "mastering": Moment("s3", "GET", CLIP, 2),
    "publishing": Moment("s3", "PUT", r"\.wav"),
    "publishing the manifest": Moment("s3", "PUT", MANIFEST),
}
"""Where a run may be when it is cancelled."""

KILLED = {
    "between submission and job record": Moment("s3", "PUT", RECORD, 1),
    "between job record and result": Moment("client", "GET", "/status/", 3),
    "between audio and sidecar": Moment("s3", "PUT", SIDECAR, 1),
    "between a clip and the end of its record": Moment("s3", "DELETE", RECORD, 1),
    "between master and manifest": Moment("s3", "PUT", MANIFEST),
}
"""Where a pipeline is at its most delicate when it is killed."""


def _sidecar(clip: str) -> str:
    return clip.replace(".flac", ".json")


def _flip(flac: bytes) -> bytes:
    return flac[:500] + bytes([flac[500] ^ 1]) + flac[501:]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _take_anothers_sidecar(scene: Scene, clip: str) -> None:
    others = set(scene.keys("/clips/", ".json")) - {_sidecar(clip)}
    scene.replace(_sidecar(clip), lambda _: scene.read(min(others)))


DAMAGE: dict[str, Callable[[Scene, str], object]] = {
    "flipped": lambda scene, clip: scene.replace(clip, _flip),
    "truncated": lambda scene, clip: scene.replace(clip, _half),
    "emptied": lambda scene, clip: scene.replace(clip, lambda _: b""),
    "sidecar missing": lambda scene, clip: scene.delete(_sidecar(clip)),
    "sidecar of another": _take_anothers_sidecar,
    "sidecar torn": lambda scene, clip: scene.replace(_sidecar(clip), _half),
    "missing": lambda scene, clip: scene.delete(clip),
}
"""What may become of a clip behind the store's back, by its audio's key."""
