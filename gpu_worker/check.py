"""The worker's self-test: load what the settings ask for, speak one word, and look at what came out."""

from __future__ import annotations

import asyncio
from time import perf_counter

import numpy as np

from gpu_worker.engine_protocol import Engine, Utterance
from gpu_worker.open_engine import open_engine
from gpu_worker.settings import WorkerSettings
from narration.audio.voice_sample import SILENT_PEAK
from narration.contract import SAMPLE_RATE, SynthesisRequest

_WORD = SynthesisRequest(prompt="Hello.", max_new_tokens=128, seed=0)  # a cap of five seconds


class CheckFailed(Exception):
    """The engine spoke, but not so that it could be heard."""


def run(settings: WorkerSettings) -> str:
    """Load, speak, and say in one line how it went.

    Raises `CheckFailed`, `ModelError` or whatever else kept the engine from speaking.
    """
    began = perf_counter()
    speaker = open_engine(settings)
    loaded = perf_counter()
    utterance = asyncio.run(_speak(speaker))
    spoken = perf_counter()
    waveform = utterance.waveform
    if not np.isfinite(waveform).all():
        raise CheckFailed("the waveform holds samples that are not finite numbers")
    if waveform.size == 0 or float(np.abs(waveform).max()) < SILENT_PEAK:
        raise CheckFailed("the waveform is silent")
    return (
        f"{speaker.model} spoke {waveform.size / SAMPLE_RATE:.2f} s ({utterance.finish_reason})"
        f" in {spoken - loaded:.2f} s, loaded in {loaded - began:.1f} s, {speaker.slots} slots"
    )


async def _speak(speaker: Engine) -> Utterance:
    try:
        return await speaker.speak(_WORD, None)
    finally:
        await speaker.drain()
