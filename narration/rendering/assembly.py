"""Assembling the samples of the master: each clip at its place, levelled and faded, with silence between."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from narration.audio.files import Waveform, resample
from narration.contract import SAMPLE_RATE
from narration.errors import MasteringError
from narration.rendering.timeline import MASTER_RATE, UPSAMPLING, Placement, Timeline

FADE = 0.005  # s, at both edges of each clip

_READERS = 2  # threads that decode and resample clips
_READ_AHEAD = 4  # clips decoded before they are needed

ClipReader = Callable[[int], Waveform]
"""Returns the waveform (24 kHz) of the chunk with an index. Called from several threads."""


def assemble(
    timeline: Timeline, read_clip: ClipReader, gain_db: float, stop: threading.Event | None
) -> Generator[bytes | memoryview]:
    """The samples of the master before the limiter, as blocks of mono float32 at 48 kHz.

    `gain_db` is added to the gain of each placement. Raises `MasteringError` if `stop` is set, or a
    clip has another length than in `timeline`, and any error of `read_clip`.
    """
    position = 0  # samples of the master produced so far
    with ThreadPoolExecutor(_READERS, thread_name_prefix="clips") as pool:
        upcoming = iter(timeline.placements)
        waiting: deque[tuple[Placement, Future[Waveform]]] = deque()

        def read_next(count: int) -> None:
            for placement in islice(upcoming, count):
                waiting.append((placement, pool.submit(_segment, placement, read_clip, gain_db)))

        read_next(_READ_AHEAD)
        try:
            while waiting:
                if stop is not None and stop.is_set():
                    raise MasteringError("mastering was stopped")
                placement, segment = waiting.popleft()
                yield from _silence(placement.start - position)
                yield segment.result().data
                position = placement.end
                read_next(1)
        finally:
            for _, segment in waiting:
                segment.cancel()
    yield from _silence(timeline.samples - position)


def _segment(placement: Placement, read_clip: ClipReader, gain_db: float) -> Waveform:
    """One clip as it is in the master: at 48 kHz, trimmed, with its gain, its edges faded."""
    waveform = read_clip(placement.chunk)
    if waveform.size != placement.clip_samples:
        raise MasteringError(
            f"the clip of chunk {placement.chunk} has {waveform.size} samples, not the"
            f" {placement.clip_samples} it was arranged with"
        )
    whole = resample(waveform, SAMPLE_RATE, MASTER_RATE)
    segment = whole[placement.trim_start * UPSAMPLING : placement.trim_end * UPSAMPLING]
    segment = segment * np.float32(10 ** ((placement.gain_db + gain_db) / 20))
    fade = min(round(FADE * MASTER_RATE), segment.size // 2)
    ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
    segment[:fade] *= ramp
    segment[segment.size - fade :] *= ramp[::-1]
    return segment


def _silence(samples: int) -> Generator[bytes]:
    second = bytes(4 * MASTER_RATE)
    for left in range(samples, 0, -MASTER_RATE):
        yield second[: 4 * left]
