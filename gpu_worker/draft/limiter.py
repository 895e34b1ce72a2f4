"""Synthetic speech brought to a recording's dynamics: its peaks held near its loudness.

espeak-ng's peaks stand some 20 dB above its loudness, a well recorded narrator's 13 to 16.
Left alone, a draft could not be mastered to the loudness that the real voice will have.
"""

from __future__ import annotations

import numpy as np

from gpu_worker.engine_protocol import Waveform
from narration.contract import SAMPLE_RATE

CREST = 10 ** (8 / 20)  # peaks over the RMS of what sounds
SOUNDING = 0.02  # of the loudest sample
PEAK = 0.8  # of full scale, afterwards
HOP = SAMPLE_RATE // 1_000  # samples; gains are found every millisecond
REACH = 5  # milliseconds before and after a peak over which the gain goes down and up


def limit_peaks(waveform: Waveform) -> Waveform:
    """`waveform` with its peaks lowered to `CREST`, then raised to `PEAK`; silence stays silence."""
    loudest = float(np.abs(waveform).max(initial=0.0))
    if loudest == 0.0:
        return waveform
    sounding = waveform[np.abs(waveform) > SOUNDING * loudest]
    ceiling = float(np.sqrt(np.mean(np.square(sounding)))) * CREST
    hops = -(-waveform.size // HOP)
    padded = np.zeros(hops * HOP, np.float32)
    padded[: waveform.size] = np.abs(waveform)
    peaks = np.pad(padded.reshape(hops, HOP).max(axis=1), 2 * REACH)
    around = np.lib.stride_tricks.sliding_window_view(peaks, 2 * REACH + 1).max(axis=1)
    gains = np.minimum(1.0, ceiling / np.maximum(around, 1e-9))
    smooth = np.convolve(gains, np.full(2 * REACH + 1, 1 / (2 * REACH + 1)), mode="valid")
    each = np.interp(np.arange(waveform.size), np.arange(hops) * HOP + HOP / 2, smooth)
    held = waveform * each
    levelled: Waveform = (held * (PEAK / np.abs(held).max())).astype(np.float32)
    return levelled
