"""Draft engine: synthesizes a request with espeak-ng on the CPU.

For hearing a script's timing before a GPU is paid. It checks voice samples and context as the
Higgs engine does, and then speaks in espeak-ng's own voice.
"""

from __future__ import annotations

import asyncio
import os
import sys
import unicodedata
from asyncio.subprocess import PIPE
from pathlib import Path
from time import perf_counter

import espeakng_loader
import numpy as np
from cachetools import LRUCache

from gpu_worker.draft import espeak_process, espeak_voice
from gpu_worker.draft.limiter import limit_peaks
from gpu_worker.engine_protocol import SampleLoader, Utterance, Waveform
from gpu_worker.voices import previous_waveform
from narration.audio.files import resample
from narration.contract import (
    DRAFT_MODEL,
    FRAME_RATE,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisRequest,
    Timings,
)

FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE
DEFAULT_SLOTS = 16
WORDS_PER_MINUTE = 165  # as espeak-ng counts; a narrator's pace on running text
MAX_PACE_CHANGE = 2  # words a minute by which a seed changes the pace, so that another take is another clip
ESPEAK_TIMEOUT = 60  # s for one text; two thousand characters take a fifth of a second
MAX_SECONDS = 600  # of one text's speech; the longest prompt takes a third of it
FADE_SAMPLES = SAMPLE_RATE // 50  # faded at the end, where espeak-ng stops abruptly
TRAILING_SILENCE = SAMPLE_RATE // 10  # samples appended after the fade
SMALLEST_16_BIT = 2.0**-15  # of full scale


class DraftEngine:
    """An `Engine` that runs each request in an espeak-ng process, as many at once as there are CPUs."""

    def __init__(self, *, slots: int = DEFAULT_SLOTS, voice_cache: int = 64) -> None:
        self.model = DRAFT_MODEL
        self.slots = slots
        self.configuration: dict[str, str | int | float | bool] = {"engine": "draft", "device": "cpu"}
        self._processors = asyncio.Semaphore(min(slots, os.cpu_count() or 1))
        self._checked_voices: LRUCache[str, None] = LRUCache(voice_cache)

    async def synthesize(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """See `Engine.synthesize`; the same request and seed give the same samples."""
        started = perf_counter()
        await asyncio.to_thread(previous_waveform, request)
        if sample is not None:
            await self._check_voice(request.audio_sha256, sample)
        voice_checked = perf_counter()
        async with self._processors:
            admitted = perf_counter()
            waveform = await _synthesize_waveform(request)
        decoded = perf_counter()
        whole_frames = -(-waveform.size // FRAME_SAMPLES)
        frames = min(whole_frames, request.max_new_tokens)
        return Utterance(
            waveform=_cut_or_pad(waveform, frames),
            frames=frames,
            finish_reason="stop" if frames == whole_frames else "length",
            seed=request.seed or 0,
            timings=Timings(
                voice=voice_checked - started, queue=admitted - voice_checked, decode=decoded - admitted
            ),
        )

    async def drain(self) -> None:
        """Nothing to do: no work outlives the request it belongs to."""

    async def _check_voice(self, sha256: str | None, sample: SampleLoader) -> None:
        """Load and thereby check the sample, unless a sample with this digest has passed before."""
        if sha256 is None or sha256 not in self._checked_voices:
            sha256 = (await sample()).sha256
        self._checked_voices[sha256] = None


async def _synthesize_waveform(request: SynthesisRequest) -> Waveform:
    """The prompt's speech, or its characters' names if espeak-ng has no sound for any of them."""
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in request.prompt)
    waveform = await _run_espeak(text, request)
    if not waveform.any():
        waveform = await _run_espeak(espeak_voice.spell_out(text), request)
    if not waveform.any():
        raise ContractError(ErrorCode.ENGINE_FAILURE, "espeak-ng made no sound of the prompt")
    return waveform


async def _run_espeak(text: str, request: SynthesisRequest) -> Waveform:
    """Synthesize `text` in a process of its own, which is killed if the request is cancelled."""
    pace = WORDS_PER_MINUTE + (request.seed or 0) % (2 * MAX_PACE_CHANGE + 1) - MAX_PACE_CHANGE
    max_samples = MAX_SECONDS * espeak_process.RATE
    data = Path(espeakng_loader.get_data_path())
    voice = espeak_voice.choose_voice(text)
    process = await asyncio.create_subprocess_exec(
        # No site-packages and no environment: a fast start, and the same samples everywhere.
        *(sys.executable, "-I", "-S", espeak_process.__file__),
        *(espeakng_loader.get_library_path(), data.name, voice, str(pace), str(max_samples)),
        cwd=data.parent,  # espeak-ng keeps its data's path in 160 bytes: a relative path always fits
        env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(ESPEAK_TIMEOUT):
            pcm, stderr = await process.communicate(espeak_voice.replace_unreadable(text, voice).encode())
    except TimeoutError:
        raise ContractError(ErrorCode.ENGINE_FAILURE, f"espeak-ng took over {ESPEAK_TIMEOUT} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise ContractError(
            ErrorCode.ENGINE_FAILURE, f"espeak-ng ended with status {process.returncode}: {reason}"
        )
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32_768)
    if not samples.any():
        return samples
    return await asyncio.to_thread(_postprocess, samples)


def _postprocess(samples: Waveform) -> Waveform:
    """espeak-ng's samples at 24 kHz, with a recording's dynamics, a fade and a silent end."""
    waveform = limit_peaks(resample(samples, espeak_process.RATE, SAMPLE_RATE))
    # The resampler rings on below 16 bits: a fade placed there would leave the audible end abrupt.
    audible = np.flatnonzero(np.abs(waveform) >= SMALLEST_16_BIT)
    waveform = waveform[: audible[-1] + 1 if audible.size else 0]
    fade = min(FADE_SAMPLES, waveform.size)
    waveform[waveform.size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return np.pad(waveform, (0, TRAILING_SILENCE))


def _cut_or_pad(waveform: Waveform, frames: int) -> Waveform:
    """`waveform` cut, or padded with silence, to `frames` frames."""
    cut = waveform[: frames * FRAME_SAMPLES]
    return np.pad(cut, (0, frames * FRAME_SAMPLES - cut.size))
