"""Self-test: load the engine that the settings choose, synthesize one word, check the waveform."""

from __future__ import annotations

import asyncio
from time import perf_counter

import numpy as np

from gpu_worker.engine_protocol import Engine, Utterance
from gpu_worker.open_engine import open_engine
from gpu_worker.settings import WorkerSettings
from narration.audio.voice_sample import SILENT_PEAK
from narration.contract import SAMPLE_RATE, SynthesisRequest

_WORD = SynthesisRequest(prompt="Hello.", max_new_tokens=128, seed=0)  # 128 frames: at most five seconds


class SelfTestFailed(Exception):
    """The engine returned a waveform that is silent or not finite."""


def run(settings: WorkerSettings) -> str:
    """Load the engine, synthesize the word, and return one line with model, durations and slots.

    Raises `SelfTestFailed` for a bad waveform, `ModelError` for a checkpoint that cannot be
    loaded, and whatever else the engine raises.
    """
    began = perf_counter()
    engine = open_engine(settings)
    loaded = perf_counter()
    utterance = asyncio.run(_synthesize_word(engine))
    synthesized = perf_counter()
    waveform = utterance.waveform
    if not np.isfinite(waveform).all():
        raise SelfTestFailed("the waveform holds samples that are not finite numbers")
    if waveform.size == 0 or float(np.abs(waveform).max()) < SILENT_PEAK:
        raise SelfTestFailed("the waveform is silent")
    return (
        f"{engine.model} spoke {waveform.size / SAMPLE_RATE:.2f} s ({utterance.finish_reason})"
        f" in {synthesized - loaded:.2f} s, loaded in {loaded - began:.1f} s, {engine.slots} slots"
        + (f" of {length} tokens" if (length := engine.configuration.get("slot_length")) else "")
    )


async def _synthesize_word(engine: Engine) -> Utterance:
    try:
        return await engine.synthesize(_WORD, None)
    finally:
        await engine.drain()
