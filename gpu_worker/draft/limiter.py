"""Peak limiter: lowers the peaks of synthetic speech to those of a recording.

espeak-ng's peaks lie some 20 dB above its loudness, a well recorded narrator's 13 to 16 dB.
Unlimited, a draft could not be mastered to the loudness that the cloned voice will have.
"""

from __future__ import annotations

import numpy as np

from gpu_worker.engine_protocol import Waveform
from narration.contract import SAMPLE_RATE

CREST = 10 ** (8 / 20)  # highest allowed peak, over the RMS of the samples that are not silent
NOT_SILENT = 0.02  # of the largest sample's absolute value
PEAK = 0.8  # of full scale, after the limiter
HOP = SAMPLE_RATE // 1_000  # samples; one gain for each millisecond
REACH = 5  # milliseconds before and after a peak over which the gain falls and rises


def limit_peaks(waveform: Waveform) -> Waveform:
    """`waveform` [samples] with peaks lowered to `CREST`, then scaled to `PEAK`; silence stays silence."""
    largest = float(np.abs(waveform).max(initial=0.0))
    if largest == 0.0:
        return waveform
    speech = waveform[np.abs(waveform) > NOT_SILENT * largest]
    ceiling = float(np.sqrt(np.mean(np.square(speech)))) * CREST
    hops = -(-waveform.size // HOP)
    padded = np.zeros(hops * HOP, np.float32)
    padded[: waveform.size] = np.abs(waveform)
    peaks = np.pad(padded.reshape(hops, HOP).max(axis=1), 2 * REACH)
    nearby_peaks = np.lib.stride_tricks.sliding_window_view(peaks, 2 * REACH + 1).max(axis=1)
    gains = np.minimum(1.0, ceiling / np.maximum(nearby_peaks, 1e-9))
    smooth = np.convolve(gains, np.full(2 * REACH + 1, 1 / (2 * REACH + 1)), mode="valid")
    sample_gains = np.interp(np.arange(waveform.size), np.arange(hops) * HOP + HOP / 2, smooth)
    limited = waveform * sample_gains
    scaled: Waveform = (limited * (PEAK / np.abs(limited).max())).astype(np.float32)
    return scaled
