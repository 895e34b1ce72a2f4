"""What any engine offers the handler: a request and a way to its voice sample in, a waveform out."""

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
"""Fetches, checks and decodes the request's sample; called only when the engine lacks the voice."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """One chunk spoken. `frames` of 960 samples; `timings` in seconds, without the handler's part."""

    waveform: Waveform
    frames: int
    finish_reason: Literal["stop", "length"]
    seed: int
    timings: Timings


class Engine(Protocol):
    """An engine: `model` is the id it answers for, `slots` how many requests it speaks at once.

    `facts` of its configuration (device, dtype, slots, versions) go out with every result:
    codes repeat only where they are equal.
    """

    model: str
    slots: int
    facts: dict[str, str | int | float | bool]

    async def speak(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """Speak `request`, in the sample's voice if there is one.

        Raises `ContractError` for what it refuses or could not do. Cancelling the
        awaiting task frees the request's slot.
        """

    async def drain(self) -> None:
        """Finish what was admitted, then release the device."""
