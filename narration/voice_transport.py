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
from narration.voices import Voice

LINK_GRACE = 600  # s a presigned link outlives the job that needs it
MAX_INLINE = 8_000_000  # characters of base64; RunPod takes 10 MB a request


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
        link = partial(store.link, voice.key, seconds=round(settings.queue_timeout) + LINK_GRACE)
        if link().startswith("https://"):
            return cls(link=link)
        encoded = base64.b64encode(store.read_sample(voice.key)).decode()
        if len(encoded) > MAX_INLINE:
            raise VoiceError(
                f"the sample of {voice.name} is too large to be sent with every chunk",
                remedy="add it again as FLAC, mono, of 5 to 20 s",
            )
        return cls(base64=encoded)

    def attach(self, request: SynthesisRequest) -> SynthesisRequest:
        """`request` with the sample, where it names one."""
        if request.audio_sha256 is None:
            return request
        url = self.link() if self.link else None
        return request.model_copy(update={"audio_url": url, "audio_base64": self.base64})
