"""Speech by espeak-ng (in a process of its own: its state is global), silence and tones for tests."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from narration.audio.files import resample
from narration.chunking import Boundary, Chunk

RATE = 24_000  # Hz, as clips have


def speak(text: str, *, voice: str = "en-us", wpm: int = 175) -> NDArray[np.float32]:
    """`text` spoken by a new espeak-ng process: mono float32 at 24 kHz, the same samples every time."""
    return _speak(text, voice, wpm).copy()


def silence(seconds: float) -> NDArray[np.float32]:
    """Digital silence at 24 kHz."""
    return np.zeros(round(seconds * RATE), np.float32)


def tone(seconds: float, *, hertz: float = 440, level: float = 0.3) -> NDArray[np.float32]:
    """A sine at 24 kHz."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def chunk(index: int, boundary: Boundary = "end", *sentences: str) -> Chunk:
    """A chunk of `sentences` with `boundary` after it."""
    spoken = sentences or ("A sentence.",)
    return Chunk(index, " ".join(spoken), spoken, boundary, "text", 0)


@cache
def _speak(text: str, voice: str, wpm: int) -> NDArray[np.float32]:
    program = Path(__file__).with_name("espeak_program.py")
    library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program), library, data, voice, str(wpm)],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    rate = int.from_bytes(done.stdout[:4], "little")
    pcm = np.frombuffer(done.stdout[4:], "<i2").astype(np.float32)
    return resample(pcm / np.float32(32_768), rate, RATE)
