"""Captions: one clock with the audio, two readable lines, both formats well-formed."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import RATE, chunk, silence, speak

from narration.audio.shape import ClipShape, shape_of
from narration.chunking import Chunk
from narration.rendering.caption_lines import caption_blocks, graphemes, width
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


def made(seconds: float, *pauses: tuple[float, float]) -> ClipShape:
    """A clip that is all speech but for `pauses`, in seconds."""
    spans = tuple((round(start * RATE), round(end * RATE)) for start, end in pauses)
    return ClipShape(round(seconds * RATE), 0, round(seconds * RATE), spans, None)


def clip_seconds(cue_sample: int, timeline: Timeline, number: int = 0) -> float:
    """A moment of the master as seconds into a chunk's placement."""
    return (cue_sample - timeline.placements[number].start) / MASTER_RATE


@pytest.mark.parametrize("wpm", [140, 175, 220])
def test_cues_begin_with_their_sentences(wpm: int) -> None:
    """In real speech each sentence's cue begins within a tenth of a second of the sentence."""
    begins, parts, at = [], [], 0
    for sentence in SENTENCES:
        spoken = speak(sentence, wpm=wpm)
        shape = shape_of(spoken, RATE)
        begins.append(at + shape.speech_start)
        parts += [spoken[: shape.speech_end], silence(0.3)]
        at += shape.speech_end + round(0.3 * RATE)
    shape = shape_of(np.concatenate(parts), RATE)
    timeline, cues = cues_of([chunk(1, "end", *SENTENCES)], [shape])
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
    """Equal sentences of 10 s meet at 5 s: a pause up to 1.5 s away takes the boundary, others do not."""
    timeline, (first, second) = cues_of([chunk(1, "end", *TWO)], [made(10, (start, start + 0.2))])
    meets = clip_seconds(second.start, timeline)
    assert first.end == second.start
    assert (first.aligned, second.aligned) == (aligned, aligned)
    assert start <= meets <= start + 0.2 if aligned else meets == pytest.approx(5.0, abs=0.01)


def test_the_nearest_pause_wins() -> None:
    """Of several pauses in reach the nearest to the boundary's place takes it."""
    shape = made(10, (3.8, 4.0), (5.2, 5.4), (6.0, 6.2))
    timeline, (_, second) = cues_of([chunk(1, "end", *TWO)], [shape])
    assert 5.2 <= clip_seconds(second.start, timeline) <= 5.4


def test_boundaries_keep_their_order() -> None:
    """Two boundaries near one pause do not share it, and the later one stays behind the earlier."""
    three = ("Aaaa bbbb cccc dddd.", "Oh.", "Aaaa bbbb cccc dddd.")
    timeline, cues = cues_of([chunk(1, "end", *three)], [made(4, (2.2, 2.4))])
    starts = [clip_seconds(cue.start, timeline) for cue in cues]
    assert starts == sorted(starts)
    assert len(set(starts)) == 3
    assert [cue.aligned for cue in cues] == [True, False, False]


def test_chunks_bound_their_cues() -> None:
    """A chunk's cues begin with its placement and end with it, a short last one a little later."""
    chunks = [chunk(1, "paragraph", *SENTENCES[:2]), chunk(2, "end", *SENTENCES[2:])]
    shapes = [shape_of(speak(one.text), RATE) for one in chunks]
    timeline, cues = cues_of(chunks, shapes)
    for place in timeline.placements:
        own = [cue for cue in cues if cue.chunk == place.chunk]
        assert own[0].start == place.start
        assert own[-1].end == max(place.end, own[-1].start + MASTER_RATE)
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))


def test_a_long_sentence_becomes_several_cues() -> None:
    """A sentence that two lines cannot hold is split into consecutive cues, in proportion to their words."""
    sentence = " ".join(f"word{n}," for n in range(40)) + " and that is the end."
    _, cues = cues_of([chunk(1, "end", sentence)], [made(20)])
    assert len(cues) >= 4
    assert " ".join(" ".join(cue.lines) for cue in cues) == sentence
    assert all(a.end == b.start for a, b in pairwise(cues))
    assert not any(cue.aligned for cue in cues)
    weights = [expected_seconds(cue.text.replace("\n", " ")) for cue in cues]
    seconds = [cue.end_seconds - cue.start_seconds for cue in cues]
    assert np.corrcoef(weights, seconds)[0, 1] > 0.9


def test_short_cues_stay_where_there_is_silence() -> None:
    """A cue of half a second is held into the pause behind it, but never into the next cue."""
    chunks = [chunk(1, "heading", "No."), chunk(2, "sentence", "No."), chunk(3, "end", "No.")]
    timeline, (first, second, third) = cues_of(chunks, [made(0.5), made(0.5), made(0.5)])
    assert first.end - first.start == MASTER_RATE
    assert second.end == third.start
    assert second.end - second.start < MASTER_RATE
    assert third.end - third.start == MASTER_RATE <= timeline.samples - third.start


@pytest.mark.parametrize("sentence", ["\u200b", "\x00", "   "])
def test_nothing_to_see_gives_no_cue(sentence: str) -> None:
    """A sentence without a visible character has no cue; its neighbours share the chunk."""
    _, cues = cues_of([chunk(1, "end", "One.", sentence, "Two.")], [made(4)])
    assert [cue.text for cue in cues] == ["One.", "Two."]
    assert cues_of([chunk(1, "end", sentence)], [made(4)])[1] == ()


words = st.text(
    st.sampled_from("abcdefgh,.!?&<>-'\"0123456789éßЖ字。👍🏽👨\u200d🇩🇪\u0301\u200b\u00a0אب"),
    min_size=1,
    max_size=60,
)
sentences = st.lists(words, min_size=1, max_size=30).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(sentences, min_size=1, max_size=4), min_size=1, max_size=4),
    st.floats(2, 40),
    st.lists(st.floats(0.01, 0.95), max_size=12),
)
def test_any_cues_are_in_order_inside_the_audio(
    texts: list[list[str]], seconds: float, places: list[float]
) -> None:
    """Whatever the text and the pauses: cues in order, apart, inside, never empty, at most two lines."""
    pauses = sorted({round(place * seconds, 1) for place in places} - {0.0})
    spans = [(at, at + 0.13) for at, after in pairwise([*pauses, 99.0]) if at + 0.13 < min(after, seconds)]
    chunks = [chunk(n, "sentence", *text) for n, text in enumerate(texts, start=1)]
    timeline, cues = cues_of(chunks, [made(seconds, *spans) for _ in chunks])
    moments = [moment for cue in cues for moment in (cue.start, cue.end)]
    assert moments == sorted(moments)
    assert all(0 <= cue.start < cue.end <= timeline.samples for cue in cues)
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(line.strip() == line != "" for line in cue.lines)


@settings(max_examples=300, deadline=None)
@given(sentences)
def test_wrapping_loses_nothing(sentence: str) -> None:
    """The lines hold the sentence's visible characters in order, none wider than a line."""
    lines = [line for block in caption_blocks(sentence) for line in block]

    def visible(text: str) -> str:
        return "".join(c for c in text if not c.isspace() and unicodedata.category(c) != "Cf")

    assert visible("".join(lines)) == visible(sentence)
    for line in lines:
        clusters = [cluster for word in line.split() for cluster in graphemes(word)]
        assert width(line) <= 42 or len(clusters) == 1
        assert len(line) <= 42 or len(clusters) == 1


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        ("e\u0301a", ["e\u0301", "a"]),
        ("👍🏽👍", ["👍🏽", "👍"]),
        ("👨‍👩‍👧x", ["👨‍👩‍👧", "x"]),
        ("🇩🇪🇫🇷🇫", ["🇩🇪", "🇫🇷", "🇫"]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", ["\u1112\u1161\u11ab", "\u1100\u1173\u11af"]),
        ("कि", ["कि"]),
        ("❤️!", ["❤️", "!"]),
        ("น้ำ", ["น้ำ"]),
        ("क्षि", ["क्षि"]),
        ("မာ", ["မာ"]),
    ],
)
def test_characters_are_kept_as_readers_see_them(text: str, clusters: list[str]) -> None:
    """Marks, vowel signs, skin tones, joined emoji, flags and Hangul syllables stay in one piece."""
    assert graphemes(text) == clusters


def test_lines_are_even_and_break_where_clauses_end() -> None:
    """Two lines of much the same width, broken after punctuation where it lies near the middle."""
    (block,) = caption_blocks("Would you have wanted it, or would you rather not have had it?")
    assert block == ("Would you have wanted it,", "or would you rather not have had it?")
    (block,) = caption_blocks("One two three four five six seven eight nine ten eleven")
    assert abs(width(block[0]) - width(block[1])) <= 6


@pytest.mark.parametrize(
    ("sentence", "together"),
    [
        ("The cathode cracks, e.g. when it is charged above 4.2 V.", "e.g. when"),
        ("Bei einer Höhe von 8,5 km sind es noch ca. 30 %.", "8,5 km"),
        ("They all came from the St. Louis of small and quiet streets.", "St. Louis"),
    ],
)
def test_what_is_read_as_one_stays_on_one_line(sentence: str, together: str) -> None:
    """No line ends between a number and its unit, or after an abbreviation, whose period ends nothing."""
    assert together in " | ".join("\n".join(block) for block in caption_blocks(sentence))


@pytest.mark.parametrize("length", range(12, 40))
def test_japanese_wraps_between_characters(length: int) -> None:
    """Text without spaces breaks between wide characters, two columns each, never before its marks."""
    text = "カー" * length
    lines = [line for block in caption_blocks(text) for line in block]
    assert "".join(lines) == text
    assert all(len(line) <= 21 for line in lines)
    assert not any(line.startswith("ー") for line in lines)


def test_a_word_wider_than_a_line_is_broken() -> None:
    """A long address goes over several lines without losing a character."""
    address = "https://example.com/" + "a" * 150
    assert "".join(line for block in caption_blocks(address) for line in block) == address


def test_wrapping_is_fast_on_many_words() -> None:
    """Ten thousand one-letter words wrap; the cost grows with the text, not its square."""
    assert sum(len(" ".join(block).split()) for block in caption_blocks("a b c d " * 2_500)) == 10_000


CUES = (
    Cue(1, 1, 0, 60_000, ("First & <b>foremost</b>,", "a --> b"), aligned=True),
    Cue(2, 1, 60_000, 48_000 * 3_725 + 24_024, ("Zweitens: 你好",), aligned=False),
)


def test_srt_is_subrip() -> None:
    """SRT: number, times with a comma, lines, blank line; no arrow but that of the times."""
    assert to_srt(CUES) == (
        "1\n00:00:00,000 --> 00:00:01,250\nFirst & <b>foremost</b>,\na → b\n\n"
        "2\n00:00:01,250 --> 01:02:05,500\nZweitens: 你好\n\n"
    )


def test_vtt_is_webvtt() -> None:
    """VTT: its header, times with a point, and text whose markup is escaped."""
    assert to_vtt(CUES) == (
        "WEBVTT\n\n"
        "1\n00:00:00.000 --> 00:00:01.250\nFirst &amp; &lt;b&gt;foremost&lt;/b&gt;,\na --&gt; b\n\n"
        "2\n00:00:01.250 --> 01:02:05.500\nZweitens: 你好\n\n"
    )


def test_both_formats_say_the_same_times() -> None:
    """The two writers differ by separators, not by a millisecond, and written cues do not overlap."""
    spoken = speak(" ".join(SENTENCES))
    _, cues = cues_of([chunk(1, "end", *SENTENCES)], [shape_of(spoken, RATE)])
    clocks = re.findall(r"\d\d:\d\d:\d\d,\d{3}", to_srt(cues))
    assert [clock.replace(",", ".") for clock in clocks] == re.findall(r"\d\d:\d\d:\d\d\.\d{3}", to_vtt(cues))
    assert clocks == sorted(clocks)
    assert len(clocks) == 2 * len(cues)
