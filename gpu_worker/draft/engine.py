"""The draft engine: espeak-ng on the CPU behind the same door as the real one.

Real words at a real pace, free, for hearing a script's timing before a GPU is paid. It
checks a voice sample as the real engine would, and then speaks in its own voice.
"""

from __future__ import annotations

import asyncio
import os
import sys
import unicodedata
from asyncio.subprocess import PIPE
from collections import OrderedDict
from pathlib import Path
from time import perf_counter

import espeakng_loader
import numpy as np

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
WORDS_PER_MINUTE = 165  # espeak-ng's count; a narrator's pace on running text
PACE_STEPS = 2  # words a minute by which a seed may quicken or slow: another take is other bytes
PATIENCE = 60  # s for one text; two thousand characters take a fifth of a second
LONGEST = 600  # s of one text; the longest prompt takes a third of it
RELEASE = SAMPLE_RATE // 50  # samples over which the last sound fades, where espeak-ng ends at once
SILENCE = SAMPLE_RATE // 10  # samples after it
FAINTEST = 2.0**-15  # of full scale: the least that 16 bits hold


class DraftEngine:
    """A `Speaker` that speaks each request in a fresh espeak-ng process, a processor's worth at a time."""

    def __init__(self, *, slots: int = DEFAULT_SLOTS, voice_cache: int = 64) -> None:
        self.model = DRAFT_MODEL
        self.slots = slots
        self.facts: dict[str, str | int | float | bool] = {"engine": "draft", "device": "cpu"}
        self._processors = asyncio.Semaphore(min(slots, os.cpu_count() or 1))
        self._known_voices: OrderedDict[str, None] = OrderedDict()
        self._voice_cache = voice_cache

    async def speak(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """Speak `request`; the same request and seed give the same samples."""
        started = perf_counter()
        await asyncio.to_thread(previous_waveform, request)
        if sample is not None:
            await self._check_voice(request.audio_sha256, sample)
        voiced = perf_counter()
        async with self._processors:
            admitted = perf_counter()
            waveform = await _voice(request)
        decoded = perf_counter()
        wanted = -(-waveform.size // FRAME_SAMPLES)
        frames = min(wanted, request.max_new_tokens)
        return Utterance(
            waveform=_whole_frames(waveform, frames),
            frames=frames,
            finish_reason="stop" if frames == wanted else "length",
            seed=request.seed or 0,
            timings=Timings(queue=admitted - voiced, voice=voiced - started, decode=decoded - admitted),
        )

    async def drain(self) -> None:
        """Nothing outlives a request here."""

    async def _check_voice(self, sha256: str | None, sample: SampleLoader) -> None:
        """Load the sample unless one of that digest was found good before."""
        known = self._known_voices
        if sha256 is None or sha256 not in known:
            sha256 = (await sample()).sha256
        known[sha256] = None
        known.move_to_end(sha256)
        if len(known) > self._voice_cache:
            known.popitem(last=False)


async def _voice(request: SynthesisRequest) -> Waveform:
    """The request's words, or the names of its characters where espeak-ng has no sound for them."""
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in request.prompt)
    waveform = await _run_espeak(text, request)
    if not waveform.any():
        waveform = await _run_espeak(espeak_voice.spelled(text), request)
    if not waveform.any():
        raise ContractError(ErrorCode.ENGINE_FAILURE, "espeak-ng made no sound of the prompt")
    return waveform


async def _run_espeak(text: str, request: SynthesisRequest) -> Waveform:
    """Speak `text` in a process of its own, which a cancelled request takes down with it."""
    pace = WORDS_PER_MINUTE + (request.seed or 0) % (2 * PACE_STEPS + 1) - PACE_STEPS
    most = LONGEST * espeak_process.RATE
    data = Path(espeakng_loader.get_data_path())
    voice = espeak_voice.voice_of(text)
    process = await asyncio.create_subprocess_exec(
        # No site-packages and no environment: a fast start, and the same bytes everywhere.
        *(sys.executable, "-I", "-S", espeak_process.__file__),
        *(espeakng_loader.get_library_path(), data.name, voice, str(pace), str(most)),
        cwd=data.parent,  # espeak-ng holds its data's path in 160 bytes: a relative one always fits
        env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            pcm, complaint = await process.communicate(espeak_voice.readable(text, voice).encode())
    except TimeoutError:
        raise ContractError(ErrorCode.ENGINE_FAILURE, f"espeak-ng took over {PATIENCE} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise ContractError(
            ErrorCode.ENGINE_FAILURE, f"espeak-ng ended with status {process.returncode}: {reason}"
        )
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32_768)
    if not samples.any():
        return samples
    return await asyncio.to_thread(_finished, samples)


def _finished(samples: Waveform) -> Waveform:
    """espeak-ng's samples at the contract's rate, with a recording's dynamics and a quiet end."""
    waveform = limit_peaks(resample(samples, espeak_process.RATE, SAMPLE_RATE))
    # The resampler rings on below what 16 bits hold: faded there, a loud end would still be cut off.
    heard = np.flatnonzero(np.abs(waveform) >= FAINTEST)
    waveform = waveform[: heard[-1] + 1 if heard.size else 0]
    fade = min(RELEASE, waveform.size)
    waveform[waveform.size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return np.pad(waveform, (0, SILENCE))


def _whole_frames(waveform: Waveform, frames: int) -> Waveform:
    """Cut or padded with silence to `frames` frames."""
    whole = waveform[: frames * FRAME_SAMPLES]
    return np.pad(whole, (0, frames * FRAME_SAMPLES - whole.size))
