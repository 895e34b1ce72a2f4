"""The parts of a sentence that is too long for one chunk."""
# ruff: noqa: RUF001 - characters that resemble others are the point

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chunks import texts
from support.scripts import plain

from narration.chunking import chunk_script
from narration.chunking.clauses import split_long


@given(st.text("ab ,;.—!。é\u0301🇩🇪", max_size=400), st.integers(20, 120))
@settings(deadline=None)
def test_parts_of_a_long_sentence_are_the_sentence(text: str, limit: int) -> None:
    """The parts are within the limit and in order, and joined they are the sentence but for spaces."""
    sentence = " ".join(text.split())
    parts = split_long(sentence, limit=limit, least=limit // 4)
    assert "".join(parts).replace(" ", "") == sentence.replace(" ", "")
    assert all(part == part.strip() and 0 < len(part) <= limit for part in parts)


def test_no_part_is_too_short_to_be_spoken_well() -> None:
    """Where the words allow, neither part beside a cut is under `least` characters."""
    assert min(map(len, split_long("ab " * 34 + "ab.", limit=100, least=20))) >= 20
    assert min(map(len, split_long("Well, " + "word " * 30, limit=100, least=20))) >= 20
    assert min(map(len, split_long("I " + "word" * 60, limit=100, least=20))) >= 20


def test_dashes_between_numbers_are_no_clause() -> None:
    """A range of years is not cut; a sentence is cut after a dash between spaces and after an em dash."""
    text = "the years from 1956–1960 and on to the others 1961–1970 and all"
    assert all("–" not in part[-1] for part in split_long(text, limit=30, least=5))
    assert split_long("some words come here — and others come after it", limit=30, least=5)[0].endswith("—")


def test_a_part_is_filled_up_to_the_limit() -> None:
    """The space after a part does not count towards the limit; a mark without a space after it does."""
    full = "a" * 59 + " " + "b" * 40
    assert split_long(f"{full} {'c' * 70}", limit=100, least=20)[0] == full
    for mark in "—。，：":
        assert len(split_long("a" * 100 + mark + "b" * 70, limit=100, least=20)[0]) == 100
        assert len(split_long("a" * 99 + mark + "b" * 70, limit=100, least=20)[0]) == 100


@pytest.mark.parametrize(
    ("text", "lengths"),
    [("จำเป็นต้องดื่มน้ำ", [84, 83, 84, 69, 20]), ("ဉာဏ်နှင့်ကျင့်", [81, 84, 84, 31])],
    ids=["Thai", "Burmese"],
)
def test_a_word_over_the_limit_is_cut_where_stored_clips_were(text: str, lengths: list[int]) -> None:
    """Scripts without spaces keep the cuts of version 0.1.0: another cut would be another digest."""
    assert [len(part) for part in split_long(text * 20, limit=84, least=20)] == lengths


def test_a_long_sentence_is_cut_at_clauses_then_words() -> None:
    """A sentence over the limit is cut at a semicolon, else at a comma, else at a space."""
    clause = "the first clause goes on for quite a while, with a comma in it"
    sentence = f"{clause}; {clause}; {clause}."
    assert texts(chunk_script(plain(sentence), limit=100)) == [f"{clause};", f"{clause};", f"{clause}."]
    commas = ", ".join(["some words without a stop"] * 6) + "."
    assert all(text.endswith((",", ".")) for text in texts(chunk_script(plain(commas), limit=100)))
    words = "word " * 100
    assert {word for text in texts(chunk_script(plain(words), limit=100)) for word in text.split()} == {
        "word",
        "word.",
    }


def test_a_long_quotation_is_cut_at_the_sentences_in_it() -> None:
    """A quotation is one sentence; one over the limit is cut between the sentences in it."""
    quoted = [f"This is sentence number {n}, by Dr. Who." for n in range(10)]
    chunks = chunk_script(plain(f"He said: “{' '.join(quoted)}” And left."), limit=150)
    assert all(sentence.endswith((".", "”")) for chunk in chunks for sentence in chunk.sentences)
    assert any("number 5, by Dr. Who." in sentence for chunk in chunks for sentence in chunk.sentences)
    fitting = "He said: “I came. I saw. I conquered.”"
    assert chunk_script(plain(fitting), limit=len(fitting))[0].sentences == (fitting,)


CLUSTERS = [
    "e\u0301\u0323", "👨\u200d👩\u200d👧\u200d👦", "👋🏽", "🇩🇪", "🏴\U000e0067\U000e007f", "❤\ufe0f",
    "क्षि", "\u1112\u1161\u11ab", "น้",
]  # fmt: skip
"""Sequences of characters that a reader sees as one."""


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("lead", ["", "a"])
def test_a_word_over_the_limit_is_never_cut_inside_a_character(cluster: str, lead: str) -> None:
    """A word of 10,000 characters is cut between grapheme clusters, which a reader sees as one character."""
    word = lead + cluster * (10_000 // len(cluster))
    for limit in (20, 53, 500):
        parts = texts(chunk_script(plain(word), limit=limit))
        assert all(re.fullmatch(f"(?:{cluster})+[.]?", part) for part in [parts[0][len(lead) :], *parts[1:]])
        full = limit if limit < 500 else 80  # emoji take long to say
        assert max(map(len, parts)) > full - 2 * len(cluster)
