"""Captions: their times, and the SRT and WebVTT files."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import RATE, chunk, silence, speak
from support.captions import sentences

from narration.audio.clip_shape import ClipShape, shape_of
from narration.chunking import Chunk
from narration.rendering.captions import Cue, make_cues, to_srt, to_vtt
from narration.rendering.timeline import MASTER_RATE, Pauses, Timeline, arrange
from narration.speech_duration import expected_seconds

SENTENCES = (
    "Computers were once people.",
    "The word meant a job, and the job was arithmetic: long, dull, and important!",
    "Would you have wanted it?",
    "In 1946, the first electronic one weighed 27 tons.",
    "It filled a room.",
)


def cues_of(chunks: list[Chunk], shapes: list[ClipShape]) -> tuple[Timeline, tuple[Cue, ...]]:
    timeline = arrange(chunks, shapes, Pauses())
    return timeline, make_cues(chunks, timeline, shapes)


def shape(seconds: float, *pauses: tuple[float, float]) -> ClipShape:
    """A clip that is all speech except `pauses`, in seconds."""
    spans = tuple((round(start * RATE), round(end * RATE)) for start, end in pauses)
    return ClipShape(round(seconds * RATE), 0, round(seconds * RATE), spans, None)


def clip_seconds(cue_sample: int, timeline: Timeline, number: int = 0) -> float:
    """A moment of the master in seconds from the start of a chunk's placement."""
    return (cue_sample - timeline.placements[number].start) / MASTER_RATE


@pytest.mark.parametrize("wpm", [140, 175, 220])
def test_cues_begin_with_their_sentences(wpm: int) -> None:
    """In real speech each cue begins within a tenth of a second of its sentence."""
    begins, parts, length = [], [], 0
    for sentence in SENTENCES:
        spoken = speak(sentence, wpm=wpm)
        clip = shape_of(spoken, RATE)
        begins.append(length + clip.speech_start)
        parts += [spoken[: clip.speech_end], silence(0.3)]
        length += clip.speech_end + round(0.3 * RATE)
    whole = shape_of(np.concatenate(parts), RATE)
    timeline, cues = cues_of([chunk(1, "end", *SENTENCES)], [whole])
    assert len(cues) == len(SENTENCES)
    assert all(cue.aligned for cue in cues)
    place = timeline.placements[0]
    for cue, begin in zip(cues, begins, strict=True):
        assert abs(cue.start - place.at(begin)) < 0.1 * MASTER_RATE


TWO = ("One sentence of some length here.", "One sentence of some length here.")


@pytest.mark.parametrize(
    ("start", "aligned"), [(4.6, True), (3.7, True), (6.2, True), (3.2, False), (6.6, False)]
)
def test_a_boundary_moves_to_a_pause_within_a_second_and_a_half(start: float, aligned: bool) -> None:
    """Two equal sentences in 10 s meet at 5 s; the boundary moves to a pause up to 1.5 s away, no further."""
    timeline, (first, second) = cues_of([chunk(1, "end", *TWO)], [shape(10, (start, start + 0.2))])
    boundary = clip_seconds(second.start, timeline)
    assert first.end == second.start
    assert (first.aligned, second.aligned) == (aligned, aligned)
    assert start <= boundary <= start + 0.2 if aligned else boundary == pytest.approx(5.0, abs=0.01)


def test_a_boundary_moves_to_the_nearest_pause() -> None:
    """Of several pauses within reach the nearest one is taken."""
    clip = shape(10, (3.8, 4.0), (5.2, 5.4), (6.0, 6.2))
    timeline, (_, second) = cues_of([chunk(1, "end", *TWO)], [clip])
    assert 5.2 <= clip_seconds(second.start, timeline) <= 5.4


def test_boundaries_keep_their_order() -> None:
    """Of two boundaries near one pause only one moves there, and they stay in order."""
    three = ("Aaaa bbbb cccc dddd.", "Oh.", "Aaaa bbbb cccc dddd.")
    timeline, cues = cues_of([chunk(1, "end", *three)], [shape(4, (2.2, 2.4))])
    starts = [clip_seconds(cue.start, timeline) for cue in cues]
    assert starts == sorted(starts)
    assert len(set(starts)) == 3
    assert [cue.aligned for cue in cues] == [True, False, False]


def test_the_cues_of_a_chunk_lie_within_its_placement() -> None:
    """The cues of a chunk begin and end with its placement; a short last one ends a little later."""
    chunks = [chunk(1, "paragraph", *SENTENCES[:2]), chunk(2, "end", *SENTENCES[2:])]
    shapes = [shape_of(speak(one.text), RATE) for one in chunks]
    timeline, cues = cues_of(chunks, shapes)
    for place in timeline.placements:
        own = [cue for cue in cues if cue.chunk == place.chunk]
        assert own[0].start == place.start
        assert own[-1].end == max(place.end, own[-1].start + MASTER_RATE)
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))


def test_a_long_sentence_becomes_several_cues() -> None:
    """A sentence too long for two lines is divided into cues with durations in proportion to their text."""
    sentence = " ".join(f"word{n}," for n in range(40)) + " and that is the end."
    _, cues = cues_of([chunk(1, "end", sentence)], [shape(20)])
    assert len(cues) >= 4
    assert " ".join(" ".join(cue.lines) for cue in cues) == sentence
    assert all(a.end == b.start for a, b in pairwise(cues))
    assert not any(cue.aligned for cue in cues)
    weights = [expected_seconds(cue.text.replace("\n", " ")) for cue in cues]
    seconds = [cue.end_seconds - cue.start_seconds for cue in cues]
    assert np.corrcoef(weights, seconds)[0, 1] > 0.9


def test_a_short_cue_stays_into_the_silence_after_it() -> None:
    """A cue of half a second is prolonged into the pause after it, but never into the next cue."""
    chunks = [chunk(1, "heading", "No."), chunk(2, "sentence", "No."), chunk(3, "end", "No.")]
    timeline, (first, second, third) = cues_of(chunks, [shape(0.5), shape(0.5), shape(0.5)])
    assert first.end - first.start == MASTER_RATE
    assert second.end == third.start
    assert second.end - second.start < MASTER_RATE
    assert third.end - third.start == MASTER_RATE <= timeline.samples - third.start


@pytest.mark.parametrize("sentence", ["\u200b", "\x00", "   "])
def test_an_invisible_sentence_has_no_cue(sentence: str) -> None:
    """A sentence without a visible character has no cue; the other sentences share the time of the chunk."""
    _, cues = cues_of([chunk(1, "end", "One.", sentence, "Two.")], [shape(4)])
    assert [cue.text for cue in cues] == ["One.", "Two."]
    assert cues_of([chunk(1, "end", sentence)], [shape(4)])[1] == ()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(sentences, min_size=1, max_size=4), min_size=1, max_size=4),
    st.floats(2, 40),
    st.lists(st.floats(0.01, 0.95), max_size=12),
)
def test_any_cues_are_in_order_inside_the_audio(
    texts: list[list[str]], seconds: float, places: list[float]
) -> None:
    """For any text and pauses, cues are in order and apart, inside the audio, and of one or two lines."""
    pauses = sorted({round(place * seconds, 1) for place in places} - {0.0})
    spans = [(at, at + 0.13) for at, after in pairwise([*pauses, 99.0]) if at + 0.13 < min(after, seconds)]
    chunks = [chunk(n, "sentence", *text) for n, text in enumerate(texts, start=1)]
    timeline, cues = cues_of(chunks, [shape(seconds, *spans) for _ in chunks])
    moments = [moment for cue in cues for moment in (cue.start, cue.end)]
    assert moments == sorted(moments)
    assert all(0 <= cue.start < cue.end <= timeline.samples for cue in cues)
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(line.strip() == line != "" for line in cue.lines)


CUES = (
    Cue(1, 1, 0, 60_000, ("First & <b>foremost</b>,", "a --> b"), aligned=True),
    Cue(2, 1, 60_000, 48_000 * 3_725 + 24_024, ("Zweitens: 你好",), aligned=False),
)


def test_srt_is_subrip() -> None:
    """A cue in SRT is a number, times with a comma, lines and a blank line; only the times have an arrow."""
    assert to_srt(CUES) == (
        "1\n00:00:00,000 --> 00:00:01,250\nFirst & <b>foremost</b>,\na → b\n\n"
        "2\n00:00:01,250 --> 01:02:05,500\nZweitens: 你好\n\n"
    )


def test_vtt_is_webvtt() -> None:
    """WebVTT has a header, times with a point, and text whose markup is escaped."""
    assert to_vtt(CUES) == (
        "WEBVTT\n\n"
        "1\n00:00:00.000 --> 00:00:01.250\nFirst &amp; &lt;b&gt;foremost&lt;/b&gt;,\na --&gt; b\n\n"
        "2\n00:00:01.250 --> 01:02:05.500\nZweitens: 你好\n\n"
    )


def test_both_formats_have_the_same_times() -> None:
    """SRT and WebVTT have the same times to the millisecond, and the written cues do not overlap."""
    spoken = speak(" ".join(SENTENCES))
    _, cues = cues_of([chunk(1, "end", *SENTENCES)], [shape_of(spoken, RATE)])
    clocks = re.findall(r"\d\d:\d\d:\d\d,\d{3}", to_srt(cues))
    assert [clock.replace(",", ".") for clock in clocks] == re.findall(r"\d\d:\d\d:\d\d\.\d{3}", to_vtt(cues))
    assert clocks == sorted(clocks)
    assert len(clocks) == 2 * len(cues)
