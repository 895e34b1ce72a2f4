"""A clip's waveform as a figure: what a page shows of it beside its words."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from narration.audio.files import Waveform

WAVEFORM_POINTS = 240  # columns of a chunk's waveform figure
WAVEFORM_HEIGHT = 48


def waveform_path(waveform: Waveform) -> str:
    """The SVG path of a waveform's outline: one stroke from lowest to highest sample a column."""
    edges = np.linspace(0, waveform.size, WAVEFORM_POINTS + 1).astype(int)
    middle = WAVEFORM_HEIGHT / 2
    strokes = []
    for column, (begin, end) in enumerate(pairwise(edges)):
        part = waveform[begin:end] if end > begin else np.zeros(1, np.float32)
        top, bottom = middle * (1 - float(part.max())), middle * (1 - float(part.min()))
        strokes.append(f"M{column + 0.5:g} {top:.1f}V{max(bottom, top + 0.5):.1f}")
    return "".join(strokes)
