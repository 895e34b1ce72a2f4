"""Captions: how their text is divided into lines."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from support.captions import sentences

from narration.rendering.caption_lines import caption_blocks, graphemes, width


@settings(max_examples=300, deadline=None)
@given(sentences)
def test_wrapping_loses_nothing(sentence: str) -> None:
    """The lines hold the visible characters of the sentence in order, and none is wider than 42 columns."""
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
def test_graphemes_are_the_characters_that_a_reader_sees(text: str, clusters: list[str]) -> None:
    """Marks, vowel signs, skin tones, joined emoji, flags and Hangul syllables stay in one piece."""
    assert graphemes(text) == clusters


def test_lines_are_even_and_break_where_clauses_end() -> None:
    """Two lines are of similar width, and the first ends after punctuation near the middle."""
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
def test_numbers_with_units_and_abbreviations_stay_on_one_line(sentence: str, together: str) -> None:
    """No line ends between a number and its unit, or after an abbreviation."""
    assert together in " | ".join("\n".join(block) for block in caption_blocks(sentence))


@pytest.mark.parametrize("length", range(12, 40))
def test_japanese_wraps_between_characters(length: int) -> None:
    """Text without spaces breaks between wide characters, two columns each, never before a vowel mark."""
    text = "カー" * length
    lines = [line for block in caption_blocks(text) for line in block]
    assert "".join(lines) == text
    assert all(len(line) <= 21 for line in lines)
    assert not any(line.startswith("ー") for line in lines)


def test_a_word_wider_than_a_line_is_broken() -> None:
    """A long address is broken into several lines without losing a character."""
    address = "https://example.com/" + "a" * 150
    assert "".join(line for block in caption_blocks(address) for line in block) == address


def test_wrapping_is_fast_on_many_words() -> None:
    """Ten thousand words of one letter are wrapped: the time is linear in the length of the text."""
    assert sum(len(" ".join(block).split()) for block in caption_blocks("a b c d " * 2_500)) == 10_000
