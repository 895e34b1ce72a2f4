"""The plan of a narration: what it is made from, its chunks with their requests, and what they will cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from narration.chunking import Chunk
from narration.contract import SynthesisRequest
from narration.manifest import ChunkEntry, Manifest, TakeHistory
from narration.settings import EngineName, Settings

if TYPE_CHECKING:
    from narration.script import Script
    from narration.store import AudioClip
    from narration.voices.voice import Voice


@dataclass(frozen=True, slots=True)
class NarrationSource:
    """What a narration is made from: a script, its key in the store, and the settings to narrate it with.

    `key` is empty while the script is not stored.
    """

    script: Script
    key: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk with its request to the worker.

    The request has no voice sample and no continuity context: both are attached when a job is submitted.
    """

    chunk: Chunk
    request: SynthesisRequest
    digest: str
    previous: str | None  # digest of the clip that the continuity context is cut from
    take_history: TakeHistory
    clip: AudioClip | None  # None: not in the store when the plan was made

    @property
    def text(self) -> str:
        """The text to speak: the chunk's own, or the override of its current take."""
        return self.request.prompt

    @property
    def take(self) -> int:
        """The number of the current take, from 1."""
        return self.take_history.take


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected speech, GPU time and price of the missing clips. Prices in USD."""

    speech_seconds: float  # of the whole narration
    missing_seconds: float  # of speech whose clips are not stored
    gpu_seconds: float
    price: float
    price_per_second: float
    speed: float  # seconds of speech per GPU second
    speed_measured: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the steps after planning need to know about a narration."""

    narration_id: str
    script: Script
    script_key: str  # empty while the script is not stored
    settings: Settings
    engine: EngineName
    model: str
    voice: Voice | None
    chunks: tuple[PlannedChunk, ...]
    estimate: Estimate
    manifest: Manifest | None  # the published one, which this narration will replace
    etag: str | None  # of that manifest in the store
    dropped: tuple[ChunkEntry, ...]  # entries of that manifest whose takes no chunk carries on

    @property
    def missing(self) -> dict[str, PlannedChunk]:
        """The distinct clips to synthesize, in script order: digest -> first chunk that needs it."""
        missing: dict[str, PlannedChunk] = {}
        for planned in self.chunks:
            if planned.clip is None:
                missing.setdefault(planned.digest, planned)
        return missing

    @property
    def missing_chains(self) -> list[list[PlannedChunk]]:
        """The missing clips in chains that can be synthesized side by side.

        A clip whose continuity context is the missing clip before it follows that clip in its chain;
        every other clip begins a chain.
        """
        chains: list[list[PlannedChunk]] = []
        for planned in self.missing.values():
            if chains and planned.previous == chains[-1][-1].digest:
                chains[-1].append(planned)
            else:
                chains.append([planned])
        return chains

    @property
    def cached(self) -> int:
        """How many chunks have their clip in the store."""
        return sum(planned.clip is not None for planned in self.chunks)


@dataclass(frozen=True, slots=True)
class SynthesizedNarration:
    """A plan of which every chunk has its clip in the store."""

    plan: Plan
    clips: Mapping[str, AudioClip]  # by digest
