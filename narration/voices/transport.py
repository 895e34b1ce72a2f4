"""How a voice's sample is sent to the worker: by a link into the store, or within each request."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from narration.contract import SynthesisRequest
from narration.errors import VoiceError
from narration.settings import Settings
from narration.store import VoiceCollection
from narration.voices.voice import Voice

LINK_GRACE = 600  # s that a presigned link is valid beyond the longest wait in the queue
MAX_INLINE_BYTES = 6_000_000  # of a sample, 8 MB as base64; RunPod takes 10 MB a request
MAKE_SMALLER = "make it FLAC, mono, of 5 to 20 s, and add that"


def is_linked(voices: VoiceCollection, key: str) -> bool:
    """Whether the worker can download the sample at `key` by a link; otherwise each request carries it."""
    return voices.link_sample(key, seconds=LINK_GRACE).startswith("https://")


def explain_oversize(voices: VoiceCollection, voice: Voice, size: int) -> str | None:
    """Why a sample of `size` bytes cannot be sent with every request; None where it can, or need not be."""
    if size <= MAX_INLINE_BYTES or is_linked(voices, voice.key):
        return None
    limit = MAX_INLINE_BYTES / 1_000_000
    return f"the sample has {size / 1_000_000:.1f} MB, and {limit:g} MB at most are sent with every chunk"


@dataclass(frozen=True, slots=True)
class VoiceTransport:
    """The sample as requests carry it: a link or base64, neither of them part of a clip's identity.

    `link` signs a link for each job, since a long run outlives the validity of one.
    """

    link: Callable[[], str] | None = None
    base64: str | None = None

    @classmethod
    def of(cls, voices: VoiceCollection, voice: Voice | None, settings: Settings) -> VoiceTransport:
        """A link where the store gives https links, otherwise the sample itself; neither for no voice.

        Raises `VoiceError` for a sample too large to be sent with every request.
        """
        if voice is None:
            return cls()
        if is_linked(voices, voice.key):
            seconds = round(settings.queue_timeout) + LINK_GRACE
            return cls(link=partial(voices.link_sample, voice.key, seconds=seconds))
        sample = voices.read_sample(voice.key)
        if reason := explain_oversize(voices, voice, len(sample)):
            raise VoiceError(f"voice {voice.name}: {reason}", remedy=MAKE_SMALLER)
        return cls(base64=base64.b64encode(sample).decode())

    def attach(self, request: SynthesisRequest) -> SynthesisRequest:
        """`request` with the sample, if it is for a cloned voice."""
        if request.audio_sha256 is None:
            return request
        url = self.link() if self.link else None
        return request.model_copy(update={"audio_url": url, "audio_base64": self.base64})
