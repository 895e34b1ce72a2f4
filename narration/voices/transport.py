"""How a voice's sample reaches the worker."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from narration.contract import SynthesisRequest
from narration.errors import VoiceError
from narration.settings import Settings
from narration.store import Store
from narration.voices.voice import Voice

LINK_GRACE = 600  # s a presigned link outlives the job that needs it
MAX_INLINE_BYTES = 6_000_000  # of a sample, 8 MB as base64; RunPod takes 10 MB a request
SMALLER = "make it FLAC, mono, of 5 to 20 s, and add that"


def is_linked(store: Store, key: str) -> bool:
    """Whether a worker can fetch `key` from the store by itself; else a sample travels with each request."""
    return store.link(key, seconds=LINK_GRACE).startswith("https://")


def too_large(size: int) -> str:
    """In words, why a sample of `size` bytes cannot travel with a request."""
    most = MAX_INLINE_BYTES / 1_000_000
    return f"the sample has {size / 1_000_000:.1f} MB, and {most:g} MB at most are sent with every chunk"


@dataclass(frozen=True, slots=True)
class VoiceTransport:
    """How the sample reaches the worker, never part of an identity: inline, or by a link.

    A link is signed for each job, since a long run outlives any one of them.
    """

    link: Callable[[], str] | None = None
    base64: str | None = None

    @classmethod
    def of(cls, store: Store, voice: Voice | None, settings: Settings) -> VoiceTransport:
        """A presigned https link where the store can make one, else the sample itself.

        Raises `VoiceError` for a sample too large to travel with a request.
        """
        if voice is None:
            return cls()
        if is_linked(store, voice.key):
            seconds = round(settings.queue_timeout) + LINK_GRACE
            return cls(link=partial(store.link, voice.key, seconds=seconds))
        sample = store.voices.read_sample(voice.key)
        if len(sample) > MAX_INLINE_BYTES:
            raise VoiceError(f"voice {voice.name}: {too_large(len(sample))}", remedy=SMALLER)
        return cls(base64=base64.b64encode(sample).decode())

    def attach(self, request: SynthesisRequest) -> SynthesisRequest:
        """`request` with the sample, where it names one."""
        if request.audio_sha256 is None:
            return request
        url = self.link() if self.link else None
        return request.model_copy(update={"audio_url": url, "audio_base64": self.base64})
