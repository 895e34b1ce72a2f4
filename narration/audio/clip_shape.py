"""A clip's shape: where its speech begins and ends, its pauses, and its loudness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from narration.audio.loudness import integrated_loudness

EDGE_THRESHOLD = -42.0  # dB, a frame's RMS against the loudest frame's; audiobook tools trim there, too
PAUSE_THRESHOLD = -36.0  # dB; higher, since breath and room noise fill the pauses between words
MIN_PAUSE = 0.12  # s; the silence within a plosive lasts up to 0.1
MIN_LOUDNESS_SECONDS = 3.0  # of speech; the loudness of less is no reliable measure
FRAME = 0.03  # s
HOP = 0.01  # s
DIGITAL_SILENCE = 1e-4  # RMS; a clip whose loudest frame is below -80 dBFS has no speech


@dataclass(frozen=True, slots=True)
class ClipShape:
    """Where a clip's sound lies; positions in the clip's samples.

    `speech_start` to `speech_end` is where sound is, `pauses` are the silent ranges inside it.
    `loudness` in LUFS; None where the clip is too short or too quiet to be levelled by it.
    """

    samples: int
    speech_start: int
    speech_end: int
    pauses: tuple[tuple[int, int], ...]
    loudness: float | None


def shape_of(waveform: NDArray[np.float32], sample_rate: int) -> ClipShape:
    """Measure where a clip's speech begins and ends, its inner pauses, and its loudness.

    Thresholds are relative to the clip's loudest 30 ms, so that they hold for quiet and loud clips alike.
    A silent clip counts as speech from begin to end, with neither pauses nor loudness.
    """
    samples = waveform.size
    hop, frame = round(HOP * sample_rate), round(FRAME / HOP) * round(HOP * sample_rate)
    levels = frame_levels(waveform, sample_rate)
    peak = float(levels.max(initial=0.0))
    if peak < DIGITAL_SILENCE:
        return ClipShape(samples, 0, samples, (), None)
    sounding = np.flatnonzero(levels > peak * 10 ** (EDGE_THRESHOLD / 20))
    # Sound begins in the newest hop of the first sounding frame and ends in the oldest hop of the last.
    start = int(sounding[0]) * hop + (frame - hop if sounding[0] else 0)
    end = min(samples, (int(sounding[-1]) + 1) * hop)
    quiet = levels <= peak * 10 ** (PAUSE_THRESHOLD / 20)
    pauses = tuple(
        (first * hop, (last - 1) * hop + frame)
        for first, last in _runs(quiet)
        if first * hop > start
        and (last - 1) * hop + frame < end
        and (last - 1 - first) * hop + frame >= MIN_PAUSE * sample_rate
    )
    long_enough = end - start >= MIN_LOUDNESS_SECONDS * sample_rate
    loudness = integrated_loudness(waveform[start:end], sample_rate) if long_enough else None
    return ClipShape(samples, start, end, pauses, loudness)


def frame_levels(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """RMS of every 30 ms frame, 10 ms apart, the last one padded with silence; shape [frames]."""
    hop, per_frame = round(HOP * sample_rate), round(FRAME / HOP)
    hops = -(-waveform.size // hop)
    padded = np.zeros((hops + per_frame - 1) * hop, np.float32)
    padded[: waveform.size] = waveform
    energy = np.square(padded).reshape(-1, hop).sum(axis=1, dtype=np.float64)
    sums = np.convolve(energy, np.ones(per_frame), mode="valid")
    levels: NDArray[np.float64] = np.sqrt(sums / (hop * per_frame))
    return levels


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First index, and one past the last, of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
