"""Timing the captions of a narration, and writing them as SRT and WebVTT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from narration.audio.clip_shape import ClipShape
from narration.chunking import Chunk
from narration.rendering.caption_lines import caption_blocks
from narration.rendering.timeline import MASTER_RATE, Placement, Timeline
from narration.speech_duration import expected_seconds

MAX_MOVE = 1.5  # s, at most, from a boundary's place by the length of text to the pause it moves to
MIN_CUE = 1.0  # s that a cue stays, if no other cue begins before that
LEAD = 0.05  # s from the start of a cue to its first word


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption of one or two lines; `start` and `end` in samples of the master (48 kHz).

    `index` and `chunk` count from 1. `aligned`: both ends are at measured pauses or edges of a clip;
    otherwise at least one was placed by the length of the text.
    """

    index: int
    chunk: int
    start: int
    end: int
    lines: tuple[str, ...]
    aligned: bool

    @property
    def text(self) -> str:
        """The lines, joined by line breaks."""
        return "\n".join(self.lines)

    @property
    def start_seconds(self) -> float:
        """When the cue appears, in seconds of the master."""
        return self.start / MASTER_RATE

    @property
    def end_seconds(self) -> float:
        """When the cue disappears, in seconds of the master."""
        return self.end / MASTER_RATE


@dataclass(frozen=True, slots=True)
class _Boundary:
    """A moment between two cues, in samples of the master; `measured`: in a pause or at a clip's edge."""

    at: int
    measured: bool


def make_cues(chunks: Sequence[Chunk], timeline: Timeline, shapes: Sequence[ClipShape]) -> tuple[Cue, ...]:
    """The cues of a narration: one for each sentence, several for one that does not fit two lines.

    `shapes` holds the shape of each chunk's clip, as for `arrange`. Cues are in order, inside the
    audio, and do not overlap. A boundary between two sentences of a chunk is placed in proportion to
    the expected duration of the text, and then moved to the nearest pause within `MAX_MOVE`.
    """
    cues: list[Cue] = []
    for chunk, placement, shape in zip(chunks, timeline.placements, shapes, strict=True):
        cues.extend(_chunk_cues(chunk, placement, shape))
    limits = [*(cue.start for cue in cues), timeline.samples][1:]
    return tuple(
        replace(_prolonged(cue, limit), index=index)
        for index, (cue, limit) in enumerate(zip(cues, limits, strict=True), start=1)
    )


def to_srt(cues: Sequence[Cue]) -> str:
    """The cues in SubRip format."""
    return "".join(_file_blocks(cues, header="", separator=",", escape=_srt_text))


def to_vtt(cues: Sequence[Cue]) -> str:
    """The cues in WebVTT format."""
    return "".join(_file_blocks(cues, header="WEBVTT\n\n", separator=".", escape=_vtt_text))


def _chunk_cues(chunk: Chunk, placement: Placement, shape: ClipShape) -> list[Cue]:
    """The cues of one chunk, with index 0."""
    sentences = [(blocks, sentence) for sentence in chunk.sentences if (blocks := caption_blocks(sentence))]
    if not sentences:
        return []
    weights = [expected_seconds(sentence) for _, sentence in sentences]
    boundaries = _sentence_boundaries(weights, placement, shape)
    cues: list[Cue] = []
    for (blocks, _), (start, end) in zip(sentences, pairwise(boundaries), strict=True):
        parts = _shares([expected_seconds(" ".join(lines)) for lines in blocks], start.at, end.at)
        moments = [start, *(_Boundary(at, measured=False) for at in parts), end]
        cues.extend(
            Cue(0, chunk.index, a.at, b.at, lines, a.measured and b.measured)
            for lines, (a, b) in zip(blocks, pairwise(moments), strict=True)
        )
    return cues


def _sentence_boundaries(weights: Sequence[float], placement: Placement, shape: ClipShape) -> list[_Boundary]:
    """The start of the chunk, the moments between its sentences, and its end."""
    first, last = placement.start, placement.end
    places = _shares(weights, placement.at(shape.speech_start), placement.at(shape.speech_end))
    ends = [placement.at(end) for _, end in shape.pauses]
    middles = [(placement.at(a) + placement.at(b)) // 2 for a, b in shape.pauses]
    boundaries = [_Boundary(first, measured=True)]
    for number, place in enumerate(places):
        earliest = boundaries[-1].at
        within = [
            pause
            for pause, middle in enumerate(middles)
            if abs(middle - place) <= MAX_MOVE * MASTER_RATE and middle > earliest
        ]
        if within:
            nearest = min(within, key=lambda pause: abs(middles[pause] - place))
            at = max(middles[nearest], ends[nearest] - round(LEAD * MASTER_RATE))
            boundaries.append(_Boundary(at, measured=True))
        elif place > earliest:
            boundaries.append(_Boundary(place, measured=False))
        else:  # the boundary before was moved beyond this one's place: divide the time that is left
            rest = _shares(weights[number:], earliest, last)
            boundaries.append(_Boundary(rest[0], measured=False))
    boundaries.append(_Boundary(last, measured=True))
    return boundaries


def _shares(weights: Sequence[float], start: int, end: int) -> list[int]:
    """The moments that divide the time from `start` to `end` in proportion to `weights`."""
    total = sum(weights)
    return [start + round((end - start) * share / total) for share in accumulate(weights[:-1])]


def _prolonged(cue: Cue, limit: int) -> Cue:
    """`cue` with a duration of at least `MIN_CUE`, as far as it ends by the sample `limit`."""
    end = max(cue.end, min(limit, cue.start + round(MIN_CUE * MASTER_RATE)))
    return replace(cue, end=end)


def _file_blocks(
    cues: Sequence[Cue], *, header: str, separator: str, escape: Callable[[str], str]
) -> Iterator[str]:
    yield header
    for cue in cues:
        span = f"{_clock(cue.start, separator)} --> {_clock(cue.end, separator)}"
        yield f"{cue.index}\n{span}\n{escape(cue.text)}\n\n"


def _clock(sample: int, separator: str) -> str:
    milliseconds = sample * 1000 // MASTER_RATE
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{separator}{rest % 1000:03}"


def _vtt_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _srt_text(text: str) -> str:
    # SubRip has no escapes, and a player could take an arrow in the text for a cue's times.
    return text.replace("-->", "→")
