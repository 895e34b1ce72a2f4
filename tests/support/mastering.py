"""A narration of real speech for tests of the master, and measurements of audio files."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from narration.audio.clip_shape import shape_of
from narration.audio.ffmpeg import find_ffmpeg
from narration.rendering.timeline import MASTER_RATE, Pauses, Timeline, arrange
from support.audio import RATE, chunk, silence, speak

Waveform = NDArray[np.float32]

TEXTS = (
    "Computers were once people, and the word meant a job: long, dull, and important.",
    "In 1946, the first electronic one weighed twenty-seven tons.",
    "No.",
    "It filled a room, and everyone who worked in that room wore a coat, even in the summer.",
)


def arranged(clips: list[Waveform]) -> Timeline:
    """The timeline of `clips`, one sentence after another."""
    chunks = [chunk(n, "sentence") for n in range(1, len(clips))] + [chunk(len(clips), "end")]
    return arrange(chunks, [shape_of(clip, RATE) for clip in clips], Pauses())


@cache
def narration() -> tuple[Timeline, tuple[Waveform, ...]]:
    """Four sentences of real speech at uneven levels, and their timeline."""
    levels = (0.3, 0.15, 0.3, 0.4)
    clips = [
        np.concatenate([silence(0.3), speak(text) * np.float32(level), silence(0.6)])
        for text, level in zip(TEXTS, levels, strict=True)
    ]
    return arranged(clips), tuple(clips)


def read_clip(index: int) -> Waveform:
    """The clip of the chunk `index` of `narration`."""
    return narration()[1][index - 1]


def samples(path: Path) -> Waveform:
    """The samples of a master's file."""
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == MASTER_RATE
    assert waveform.shape[1] == 1
    mono: Waveform = waveform[:, 0]
    return mono


def measured(path: Path) -> tuple[float, float]:
    """Integrated loudness (LUFS) and true peak (dBTP) of a file, as ffmpeg measures them."""
    command = [str(find_ffmpeg()), "-hide_banner", "-nostats", "-i", str(path)]
    graph = ["-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-"]
    done = subprocess.run([*command, *graph], capture_output=True, check=True)
    summary = done.stderr.decode().rpartition("Summary:")[2]
    integrated = re.search(r"I:\s+(\S+) LUFS", summary)
    true_peak = re.search(r"Peak:\s+(\S+) dBFS", summary)
    assert integrated
    assert true_peak
    return float(integrated[1]), float(true_peak[1])
