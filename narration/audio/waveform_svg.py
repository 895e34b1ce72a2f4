"""A clip's waveform as an SVG path, for the review page."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from narration.audio.files import Waveform

WAVEFORM_POINTS = 240  # columns, one unit wide
WAVEFORM_HEIGHT = 48  # units


def waveform_path(waveform: Waveform) -> str:
    """The SVG path of a waveform's outline: in each column a stroke from the highest to the lowest sample."""
    edges = np.linspace(0, waveform.size, WAVEFORM_POINTS + 1).astype(int)
    middle = WAVEFORM_HEIGHT / 2
    strokes = []
    for column, (begin, end) in enumerate(pairwise(edges)):
        samples = waveform[begin:end] if end > begin else np.zeros(1, np.float32)
        top, bottom = middle * (1 - float(samples.max())), middle * (1 - float(samples.min()))
        strokes.append(f"M{column + 0.5:g} {top:.1f}V{max(bottom, top + 0.5):.1f}")
    return "".join(strokes)
