"""Engine protocol: a request and a voice sample's loader in, a waveform out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from narration.contract import SynthesisRequest, Timings

Waveform = NDArray[np.float32]
"""Mono samples in [-1, 1] at 24 kHz, shape [samples]."""


@dataclass(frozen=True, slots=True, eq=False)
class VoiceSample:
    """A checked voice sample: mono 24 kHz `waveform`, `sha256` of the bytes it was decoded from."""

    waveform: Waveform
    sha256: str
    transcript: str


SampleLoader = Callable[[], Awaitable[VoiceSample]]
"""Fetches, checks and decodes the request's sample; called only for a voice that the engine does not hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A synthesized chunk: `frames` of 960 samples, `timings` in seconds without the handler's part."""

    waveform: Waveform
    frames: int
    finish_reason: Literal["stop", "length"]
    seed: int
    timings: Timings


class Engine(Protocol):
    """Synthesizes several requests at a time.

    `model` is the id that requests may name, `slots` the number of requests synthesized at once.
    `configuration` (device, dtype, slots, versions) goes out with every result: the same request
    and seed repeat their codes only where the configuration is equal.
    """

    model: str
    slots: int
    configuration: dict[str, str | int | float | bool]

    async def synthesize(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """Synthesize `request`, in the sample's voice if there is one.

        Raises `ContractError` for a request that it refuses and for a failure. Cancelling the
        awaiting task frees the request's slot.
        """

    async def drain(self) -> None:
        """Finish the requests in progress, refuse new ones, then release the device."""
