"""Stored clips: the audio, and beside it, written last, the sidecar that says what it is."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from typing_extensions import TypedDict

from narration.contract import Sha256
from narration.errors import Damaged, StoreUnavailable
from narration.json_object import JsonObject
from narration.store.layout import audio_key, sidecar_key
from narration.store.objects import PARALLEL_READS, StoreCollection

UtcTime = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$")]
"""A moment in ISO 8601, as `datetime.now(UTC).isoformat()` writes it."""

_SETTLING_ROUNDS = 8


class ClipJob(TypedDict):
    """The job a clip came from; times in milliseconds, as the endpoint reported them."""

    id: str
    endpoint: str
    execution_ms: int | None
    delay_ms: int | None


class RefusedAttempt(TypedDict):
    """An attempt that was not kept, and why."""

    attempt: int
    seed: int
    reason: str


class ClipQuality(TypedDict, total=False):
    """What the signal said of a clip: faults no attempt was free of, notes, and 0 to 1 of them all."""

    faults: list[str]
    notes: list[str]
    score: Annotated[float, Field(ge=0, le=1)]


@checked_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="ignore"))
class ClipSidecar:
    """Everything known of a clip: what identifies it, what it took to make, how good it is.

    `size` and `sha256` are of the FLAC file's bytes, `samples` is its length at `sample_rate` Hz.
    With slots, since a run holds one for each of its clips: a pydantic model takes five times as much.
    """

    schema_version: int = 1
    digest: Sha256
    samples: Annotated[int, Field(gt=0)]
    sample_rate: Annotated[int, Field(gt=0)]
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256
    text: Annotated[str, Field(min_length=1)]
    model: str
    seed: int
    take: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=0)]
    finish_reason: str
    created: UtcTime
    job: ClipJob | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    engine: JsonObject = Field(default_factory=dict)
    quality: ClipQuality = Field(default_factory=ClipQuality)
    refused: list[RefusedAttempt] = Field(default_factory=list)

    def to_json(self) -> bytes:
        """The sidecar as it is stored."""
        return _SIDECARS.dump_json(self)


_SIDECARS = TypeAdapter(ClipSidecar)


@dataclass(frozen=True, slots=True)
class AudioClip:
    """A stored clip, by reference."""

    digest: str
    key: str
    sidecar: ClipSidecar

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.sidecar.samples / self.sidecar.sample_rate


class ClipCollection(StoreCollection):
    """Clips under the digest of what made them. A clip exists if its sidecar does and agrees."""

    def find(self, digest: str) -> AudioClip | None:
        """Return the stored clip by its sidecar and its audio's size; missing, torn or foreign is None."""
        clip = self._read_sidecar(digest)
        if clip is None:
            return None
        audio = self._objects.head(clip.key)
        return clip if audio is not None and audio.size == clip.sidecar.size else None

    def find_many(self, digests: Iterable[str]) -> dict[str, AudioClip]:
        """Return those of the clips that are stored, asking for many at once."""
        wanted = list(dict.fromkeys(digests))
        with ThreadPoolExecutor(min(PARALLEL_READS, max(1, len(wanted))), "find-clips") as pool:
            found = pool.map(self.find, wanted)
            return {clip.digest: clip for clip in found if clip is not None}

    def read(self, clip: AudioClip) -> bytes:
        """Return the clip's FLAC bytes; raise `Damaged` unless they are what the sidecar says."""
        audio = self._objects.get(clip.key)
        if audio is None:
            raise Damaged(f"{self._objects.location}/{clip.key} is missing", remedy="narrate again")
        if hashlib.sha256(audio.data).hexdigest() != clip.sidecar.sha256:
            raise Damaged(
                f"{self._objects.location}/{clip.key} is not the audio that was stored",
                remedy="narrate again",
            )
        return audio.data

    def put(self, digest: str, flac: bytes, sidecar: ClipSidecar) -> AudioClip:
        """Store a clip and return the one that holds: this one, or an intact one that was first.

        Two writers of one digest may have made different audio (another attempt's seed).
        Each writes its audio, then its sidecar, then looks whether the pair left standing is
        one writer's; if the writes crossed, it writes again. The last of them finds its own.
        """
        if (sidecar.digest, sidecar.size, sidecar.sha256) != (
            digest,
            len(flac),
            hashlib.sha256(flac).hexdigest(),
        ):
            raise ValueError("the sidecar describes another clip")
        standing, rounds = self._intact(digest), 0
        while standing is None:
            if rounds == _SETTLING_ROUNDS:
                raise StoreUnavailable(f"clip {digest} is being rewritten without end", remedy="try again")
            self._objects.put(audio_key(digest), flac, content_type="audio/flac")
            self._objects.put(sidecar_key(digest), sidecar.to_json(), content_type="application/json")
            standing = self._agreed(digest)
            if standing is None:
                # Two writers in step would undo each other's mending for ever.
                time.sleep(random.uniform(0, 0.02 * 2**rounds))  # noqa: S311  no secret, just apart
                standing = self._agreed(digest)
            rounds += 1
        return standing

    def discard(self, digest: str) -> None:
        """Forget a clip that was found damaged, unless another writer has made it whole since."""
        if self._intact(digest) is None:
            self._objects.delete(sidecar_key(digest))
            self._objects.delete(audio_key(digest))

    def _read_sidecar(self, digest: str) -> AudioClip | None:
        try:
            stored = self._objects.get(sidecar_key(digest))
            if stored is None:
                return None
            sidecar = _SIDECARS.validate_json(stored.data)
        except (ValidationError, Damaged):
            return None
        return AudioClip(digest, audio_key(digest), sidecar) if sidecar.digest == digest else None

    def _intact(self, digest: str) -> AudioClip | None:
        clip = self.find(digest)
        try:
            if clip is not None:
                self.read(clip)
        except Damaged:
            return None
        return clip

    def _agreed(self, digest: str) -> AudioClip | None:
        clip = self._read_sidecar(digest)
        if clip is None or self._objects.sha256(clip.key) != clip.sidecar.sha256:
            return None
        return clip
