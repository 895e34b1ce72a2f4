"""The timeline: the place of each clip in the master, in whole samples, for audio and captions alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from narration.contract import SAMPLE_RATE

if TYPE_CHECKING:
    from narration.audio.clip_shape import ClipShape
    from narration.chunking import Boundary, Chunk

MASTER_RATE = 48_000  # Hz
UPSAMPLING = MASTER_RATE // SAMPLE_RATE  # master samples per clip sample: a whole number

LEAD_IN = 0.2  # s of silence before the first word
TAIL = 0.6  # s of silence after the last
HEAD_GUARD = 0.06  # s of silence kept before a clip's first sound, which begins below the threshold
TAIL_GUARD = 0.08  # s of silence kept after a clip's last sound, which fades below the threshold
MAX_LEVELLING = 3.0  # dB up or down, towards the median loudness of the clips


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds of silence after a sentence, after a paragraph, and on both sides of a heading."""

    sentence: float = 0.35
    paragraph: float = 0.75
    heading: float = 1.2

    def at(self, boundary: Boundary) -> float:
        """Seconds of silence at `boundary`; none at the end."""
        if boundary == "end":
            return 0.0
        return {"sentence": self.sentence, "paragraph": self.paragraph, "heading": self.heading}[boundary]


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of one chunk's clip in the master.

    The master's samples `start` to `end` (48 kHz) hold the clip's samples `trim_start` to `trim_end`
    (24 kHz), with a gain of `gain_db`.
    """

    chunk: int  # index, from 1
    start: int
    end: int
    trim_start: int
    trim_end: int
    clip_samples: int  # of the untrimmed clip, by which a clip that was replaced since is noticed
    gain_db: float

    def at(self, clip_sample: int) -> int:
        """The master's sample for a sample of the clip, limited to the placement."""
        return min(max(self.start + (clip_sample - self.trim_start) * UPSAMPLING, self.start), self.end)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The placements of all clips, in order and without overlap, and the length of the master in samples."""

    placements: tuple[Placement, ...]
    samples: int

    @property
    def seconds(self) -> float:
        """The length of the master in seconds."""
        return self.samples / MASTER_RATE


def arrange(chunks: Sequence[Chunk], shapes: Sequence[ClipShape], pauses: Pauses) -> Timeline:
    """Place the clips of `chunks` one after another; `shapes` holds the shape of each chunk's clip.

    The silence at a clip's edges is cut down to the guards. What is left of it counts as part of the
    pause, so that the silence between two clips' sounds is the one in `pauses`, or that of the two
    guards if it is longer. Raises `ValueError` without chunks, or if the numbers of chunks and shapes
    differ.
    """
    if not chunks or len(chunks) != len(shapes):
        raise ValueError(f"{len(chunks)} chunks cannot be arranged with {len(shapes)} clips")
    loudnesses = [shape.loudness for shape in shapes if shape.loudness is not None]
    target = median(loudnesses) if loudnesses else 0.0
    placements: list[Placement] = []
    cursor = _samples(LEAD_IN)
    for chunk, shape in zip(chunks, shapes, strict=True):
        trim_start = max(0, shape.speech_start - round(HEAD_GUARD * SAMPLE_RATE))
        trim_end = min(shape.samples, shape.speech_end + round(TAIL_GUARD * SAMPLE_RATE))
        earliest = placements[-1].end if placements else 0
        start = max(earliest, cursor - (shape.speech_start - trim_start) * UPSAMPLING)
        end = start + (trim_end - trim_start) * UPSAMPLING
        levelling = 0.0 if shape.loudness is None else target - shape.loudness
        gain_db = min(max(levelling, -MAX_LEVELLING), MAX_LEVELLING)
        placements.append(Placement(chunk.index, start, end, trim_start, trim_end, shape.samples, gain_db))
        # The cursor is where the next clip's sound begins.
        cursor = end - (trim_end - shape.speech_end) * UPSAMPLING + _samples(pauses.at(chunk.boundary))
    last = placements[-1].end
    silence_left = (placements[-1].trim_end - shapes[-1].speech_end) * UPSAMPLING
    return Timeline(tuple(placements), last + max(0, _samples(TAIL) - silence_left))


def _samples(seconds: float) -> int:
    return round(seconds * MASTER_RATE)
