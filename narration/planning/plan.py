"""What a narration needs, decided before anything is paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from narration.chunking import Chunk
from narration.contract import SynthesisRequest
from narration.manifest import ChunkEntry, Manifest, TakeHistory
from narration.settings import EngineName

if TYPE_CHECKING:
    from narration.script import Script
    from narration.store import AudioClip
    from narration.voices.voice import Voice


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk with what to ask the worker for. `request` holds no sample and no context: those travel."""

    chunk: Chunk
    request: SynthesisRequest
    digest: str
    previous: str | None  # identity of the clip its continuity context is cut from
    choice: TakeHistory
    clip: AudioClip | None  # in the store when the plan was made

    @property
    def text(self) -> str:
        """The words as sent."""
        return self.request.prompt


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the missing clips are expected to take. Prices in USD."""

    speech_seconds: float  # of the whole narration
    missing_seconds: float  # of speech not stored yet
    gpu_seconds: float
    price: float
    price_per_second: float
    speed: float  # seconds of speech per GPU second
    speed_measured: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs to know. `manifest` is the one to replace, `etag` its version in the store."""

    narration_id: str
    script: Script
    script_key: str  # where the store keeps it; empty while nothing was stored
    engine: EngineName
    model: str
    voice: Voice | None
    chunks: tuple[PlannedChunk, ...]
    estimate: Estimate
    manifest: Manifest | None
    etag: str | None
    dropped: tuple[ChunkEntry, ...]  # choices that no chunk of this script takes over

    @property
    def missing(self) -> dict[str, PlannedChunk]:
        """The distinct clips to synthesize, in script order: digest -> first chunk that needs it."""
        needed: dict[str, PlannedChunk] = {}
        for planned in self.chunks:
            if planned.clip is None:
                needed.setdefault(planned.digest, planned)
        return needed

    @property
    def cached(self) -> int:
        """How many chunks have their clip in the store."""
        return sum(planned.clip is not None for planned in self.chunks)
