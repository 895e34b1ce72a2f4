"""Stored clips: each an audio file and its sidecar, which is written last."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from narration.errors import Damaged, StoreUnavailable
from narration.store.clip_sidecar import ClipSidecar, parse_sidecar
from narration.store.collection import StoreCollection
from narration.store.layout import audio_key, sidecar_key
from narration.store.objects import JSON_CONTENT_TYPE, PARALLEL_REQUESTS

_MAX_REWRITES = 8


@dataclass(frozen=True, slots=True)
class AudioClip:
    """A stored clip, by reference. `key` is that of its audio."""

    digest: str
    key: str
    sidecar: ClipSidecar

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.sidecar.samples / self.sidecar.sample_rate


class ClipCollection(StoreCollection):
    """Clips by digest. A clip counts as stored if its sidecar can be read and matches its audio."""

    def find(self, digest: str) -> AudioClip | None:
        """Return the clip if its sidecar can be read and its audio has the size that the sidecar states."""
        clip = self._read_sidecar(digest)
        if clip is None:
            return None
        audio = self._objects.head(clip.key)
        return clip if audio is not None and audio.size == clip.sidecar.size else None

    def find_many(self, digests: Iterable[str]) -> dict[str, AudioClip]:
        """Return the stored clips among `digests`, by digest; many are looked up at once."""
        distinct = list(dict.fromkeys(digests))
        with ThreadPoolExecutor(min(PARALLEL_REQUESTS, max(1, len(distinct))), "find-clips") as pool:
            clips = pool.map(self.find, distinct)
            return {clip.digest: clip for clip in clips if clip is not None}

    def read(self, clip: AudioClip) -> bytes:
        """Return the clip's FLAC bytes; raise `Damaged` if they fail the sidecar's SHA-256."""
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
        """Store a clip unless an intact one is stored under its digest; return the clip that is stored then.

        Two writers of one digest may have different audio (another attempt's seed). Each writes its
        audio, then its sidecar, then reads whether the stored sidecar matches the stored audio. If
        their writes interleaved and it does not, each writes again after a random pause.

        Raises `StoreUnavailable` when the two never match, `ValueError` for a sidecar of other audio.
        """
        if (sidecar.digest, sidecar.size, sidecar.sha256) != (
            digest,
            len(flac),
            hashlib.sha256(flac).hexdigest(),
        ):
            raise ValueError("the sidecar describes another clip")
        stored, rewrites = self._find_intact(digest), 0
        while stored is None:
            if rewrites == _MAX_REWRITES:
                raise StoreUnavailable(f"other writers keep replacing clip {digest}", remedy="try again")
            self._objects.put(audio_key(digest), flac, content_type="audio/flac")
            self._objects.put(sidecar_key(digest), sidecar.to_json(), content_type=JSON_CONTENT_TYPE)
            stored = self._find_matching(digest)
            if stored is None:
                # Without a random pause, two writers in step would overwrite each other for ever.
                time.sleep(random.uniform(0, 0.02 * 2**rewrites))  # noqa: S311  no secret, just a pause
                stored = self._find_matching(digest)
            rewrites += 1
        return stored

    def delete_if_damaged(self, digest: str) -> None:
        """Delete a clip that was found damaged, unless another writer has stored it intact since."""
        if self._find_intact(digest) is None:
            self._objects.delete(sidecar_key(digest))
            self._objects.delete(audio_key(digest))

    def _read_sidecar(self, digest: str) -> AudioClip | None:
        try:
            stored = self._objects.get(sidecar_key(digest))
        except Damaged:
            return None
        sidecar = parse_sidecar(stored.data) if stored is not None else None
        if sidecar is None or sidecar.digest != digest:
            return None
        return AudioClip(digest, audio_key(digest), sidecar)

    def _find_intact(self, digest: str) -> AudioClip | None:
        """The clip if its audio's bytes have the sidecar's SHA-256."""
        clip = self.find(digest)
        try:
            if clip is not None:
                self.read(clip)
        except Damaged:
            return None
        return clip

    def _find_matching(self, digest: str) -> AudioClip | None:
        """The clip if the SHA-256 recorded with its audio is the sidecar's; reads no audio from S3."""
        clip = self._read_sidecar(digest)
        if clip is None or self._objects.sha256(clip.key) != clip.sidecar.sha256:
            return None
        return clip
