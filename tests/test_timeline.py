"""The timeline: where clips are placed and trimmed, the pauses between them, and their gains."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import chunk

from narration.audio.clip_shape import ClipShape
from narration.chunking import Boundary
from narration.contract import SAMPLE_RATE
from narration.rendering.timeline import (
    HEAD_GUARD,
    LEAD_IN,
    MASTER_RATE,
    TAIL,
    TAIL_GUARD,
    Pauses,
    Timeline,
    arrange,
)

BOUNDARIES: tuple[Boundary, ...] = ("sentence", "paragraph", "heading")


def shape(
    seconds: float = 2.0, *, head: float = 0.5, tail: float = 0.5, loudness: float | None = None
) -> ClipShape:
    """A clip of `seconds` of speech with silence before and after it."""
    start, sound = round(head * SAMPLE_RATE), round(seconds * SAMPLE_RATE)
    return ClipShape(start + sound + round(tail * SAMPLE_RATE), start, start + sound, (), loudness)


def heard_pauses(timeline: Timeline, shapes: list[ClipShape]) -> list[float]:
    """The seconds from the end of each clip's speech to the beginning of the next one's."""
    spans = [
        (place.at(shape.speech_start), place.at(shape.speech_end))
        for place, shape in zip(timeline.placements, shapes, strict=True)
    ]
    return [(start - end) / MASTER_RATE for (_, end), (start, _) in pairwise(spans)]


def test_the_silence_between_clips_is_the_pause_set() -> None:
    """Between the sounds of two clips is the pause of their boundary, however long the clips' own silence."""
    shapes = [shape(head=0.5, tail=0.9), shape(head=0.01, tail=0.3), shape(head=0, tail=0), shape()]
    chunks = [chunk(1, "sentence"), chunk(2, "paragraph"), chunk(3, "heading"), chunk(4, "end")]
    timeline = arrange(chunks, shapes, Pauses(0.35, 0.75, 1.2))
    assert heard_pauses(timeline, shapes) == pytest.approx([0.35, 0.75, 1.2], abs=1e-4)


def test_trimming_keeps_silence_at_the_edges_of_a_clip() -> None:
    """A clip keeps 60 ms of silence before its sound and 80 ms after it."""
    timeline = arrange([chunk(1, "end")], [shape(head=0.5, tail=0.5)], Pauses())
    (place,) = timeline.placements
    assert place.trim_start == round((0.5 - HEAD_GUARD) * SAMPLE_RATE)
    assert place.trim_end == round((2.5 + TAIL_GUARD) * SAMPLE_RATE)
    assert 0.05 <= HEAD_GUARD <= TAIL_GUARD <= 0.1


def test_clips_never_overlap_when_pauses_are_short() -> None:
    """With pauses of 0 s, each clip starts where the one before it ends."""
    shapes = [shape(), shape(), shape()]
    chunks = [chunk(1, "sentence"), chunk(2, "sentence"), chunk(3, "end")]
    first, second, third = arrange(chunks, shapes, Pauses(0, 0, 0)).placements
    assert (first.end, second.end) == (second.start, third.start)


def test_a_narration_begins_and_ends_with_silence() -> None:
    """The lead-in comes before the first sound, and the tail after the last one."""
    one = shape()
    timeline = arrange([chunk(1, "end")], [one], Pauses())
    (place,) = timeline.placements
    assert place.at(one.speech_start) == round(LEAD_IN * MASTER_RATE)
    assert timeline.samples - place.at(one.speech_end) == round(TAIL * MASTER_RATE)


def test_clips_are_levelled_to_the_median_by_three_decibels_at_most() -> None:
    """Each clip gets the gain to the median loudness, up to 3 dB; a clip without a loudness gets none."""
    loudnesses = [-20.0, -22.0, -21.0, -40.0, -12.0, None]  # their mean is two below their median
    chunks = [chunk(n, "sentence") for n in range(1, 7)]
    timeline = arrange(chunks, [shape(loudness=one) for one in loudnesses], Pauses())
    assert [place.gain_db for place in timeline.placements] == [-1.0, 1.0, 0.0, 3.0, -3.0, 0.0]


def test_a_clip_without_sound_is_placed_whole() -> None:
    """A silent clip is not trimmed."""
    silent = ClipShape(4_800, 0, 4_800, (), None)
    (place,) = arrange([chunk(1, "end")], [silent], Pauses()).placements
    assert place.end - place.start == 9_600


@pytest.mark.parametrize("count", [0, 2])
def test_each_chunk_must_have_a_shape(count: int) -> None:
    """No chunks, or another number of shapes than of chunks, is an error."""
    with pytest.raises(ValueError, match="cannot be arranged"):
        arrange([chunk(1, "end")][: 1 - (count == 0)], [shape()] * count, Pauses())


shapes_of_any_kind = st.builds(
    lambda head, sound, tail, loudness: ClipShape(head + sound + tail, head, head + sound, (), loudness),
    st.integers(0, 50_000),
    st.integers(0, 500_000),
    st.integers(0, 50_000),
    st.none() | st.floats(-70, 0),
)
pause_seconds = st.floats(0, 10)


@given(
    st.lists(st.tuples(shapes_of_any_kind, st.sampled_from(BOUNDARIES)), min_size=1, max_size=20),
    st.builds(Pauses, pause_seconds, pause_seconds, pause_seconds),
)
def test_any_clips_are_in_order_inside_the_master(
    clips: list[tuple[ClipShape, Boundary]], pauses: Pauses
) -> None:
    """Placements are whole samples, in order, apart, as long as the trimmed clip, and inside the master."""
    chunks = [chunk(n, boundary) for n, (_, boundary) in enumerate(clips, start=1)]
    timeline = arrange(chunks, [shape for shape, _ in clips], pauses)
    for place, (clip, _) in zip(timeline.placements, clips, strict=True):
        assert 0 <= place.trim_start <= clip.speech_start <= clip.speech_end <= place.trim_end <= clip.samples
        assert place.end - place.start == 2 * (place.trim_end - place.trim_start)
        assert abs(place.gain_db) <= 3
    moments = [moment for place in timeline.placements for moment in (place.start, place.end)]
    assert moments == sorted(moments)
    assert moments[0] >= 0
    assert moments[-1] <= timeline.samples
    assert all(isinstance(moment, int) for moment in [*moments, timeline.samples])
