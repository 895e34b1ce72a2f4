"""Sentences of a paragraph, and the parts of one too long for a chunk."""
# ruff: noqa: RUF001 - characters that resemble others are the point

from __future__ import annotations

import re

import pysbd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripts import nasty_text, speakable

from narration.chunking import sentences
from narration.chunking.clauses import split_long
from narration.chunking.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences_",
    [
        ["The U.S. Navy paid $1.5 million.", "Dr. Smith met Mr. Jones at 5 p.m. on Jan. 5.", "They left."],
        ["It weighs approx. five tons, i.e. 3.2 t, e.g. like a truck vs. a car.", "See Vol. 3 or Fig. 2."],
        ["He said, “I came. I saw. I conquered.”", "Then he left."],
        ['"It was a revolution," she said.', '"Nothing was the same."'],
        ["'Stop!' she said.", "'Why?' he asked.", "It was No. 5 in the list."],
        ["Wait... what?", "Yes…", "And then… nothing.", "Really?!", "No!"],
        ["St. Petersburg is cold.", "Visit www.example.com.", "Version 2.0.1 is out."],
        ["Malcom P. McLean founded it.", "J. R. R. Tolkien wrote it.", "Acme Inc. bought Foo Corp. in May."],
        ["(This is a note.)", "He left (sadly).", "She stayed."],
        ["The price rose to 20.", "Then it fell by 3.5 percent.", "It cost $5.83 a ton."],
        ["the cat sat.", "the dog ran."],
        ["The U.S. Navy ♨ paid Dr. Smith ∯ a visit.", "Dr. Who ☏ left ♟ at five.", "Then ☝ more."],
        ["Only 2 of 10 reached level 1.", "The rest reached level 2.", "Set it to 3.", "Then stop."],
        ["See chapter 4.", "See chapter 5.", "Option a. is good.", "Option b. is bad."],
        ["Steps:", "1. Open it", "2. Close it", "3. Go."],
        ["Kurze Wellen, z. B. Blau, u. a. Violett, d. h. Farben.", "Das kostet 3 Mio. Euro bzw. Dollar."],
        ["Am 3. Oktober 1998 war es so.", "Im 19. Jahrhundert nicht.", "Bis zum 5. April.", "Dann ging er."],
        ["مرحبا بكم.", "كيف حالك؟", "بخير."],
        ["नमस्ते।", "आप कैसे हैं?", "ठीक।"],
    ],
)
def test_sentences_end_where_a_reader_hears_them_end(sentences_: list[str]) -> None:
    """Abbreviations, initials, decimals, quotations and other scripts are told from sentence ends."""
    assert split_sentences(" ".join(sentences_)) == sentences_


def test_wide_stops_end_sentences_without_a_space() -> None:
    """Chinese and Japanese put no space after a sentence."""
    expected = ["你好。", "再见！", "真的吗？", "「是。」", "他说。"]
    assert split_sentences("".join(expected)) == expected


@given(nasty_text.map(lambda text: " ".join(text.split())), st.booleans())
@settings(deadline=None, max_examples=200)
def test_sentences_are_the_paragraph_cut_in_pieces(paragraph: str, within_quotes: bool) -> None:
    """Joined, the sentences are the paragraph, every character of it; and each says something."""
    found = split_sentences(paragraph, within_quotes=within_quotes)
    assert "".join(found).replace(" ", "") == paragraph.replace(" ", "")
    assert all(speakable(sentence) for sentence in found) or len(found) == 1


def test_a_paragraph_that_pysbd_alters_falls_back_to_plain_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """When pysbd's sentences are not the text, or it fails, simple rules still find most sentences."""
    text = "One is here. Two is there! Three?"
    for answer in (
        ["One is here.", "Two is not really there!", "Three?"],
        ["One is here."],
        ["One is here.", "Three?"],
        None,
    ):

        class Altering:
            def __init__(self, answer: list[str] | None) -> None:
                self.answer = answer

            def process(self) -> list[str]:
                if self.answer is None:
                    raise re.error("bad pattern")
                return self.answer

        monkeypatch.setattr(sentences._SEGMENTER, "processor", lambda _, a=answer: Altering(a))
        assert split_sentences(text) == ["One is here.", "Two is there!", "Three?"]


def test_the_guard_against_pysbds_sentinels_is_needed() -> None:
    """Given a sentinel, the library answers with other characters, or with nothing."""
    segmenter = pysbd.Segmenter(language="en", clean=False)
    for sentinel in "♨∯☝☉":
        text = f"One {sentinel} two."
        assert "".join(segmenter.segment(text)) != text


@pytest.mark.parametrize(
    "paragraph",
    [
        "The quick brown fox, as they say, jumps over Dr. Smith's dog. " * 1_000,
        "The quick brown fox is here. " + "x" * 100_000 + ". And done. " * 200,
        "“" + "This is a quotation that is never closed. " * 1_000,
        "x. y " * 6_000,
        "你好，世界。这是一个句子！" * 4_000,
    ],
    ids=["prose", "giant word", "open quotation", "tiny sentences", "no spaces"],
)
def test_pysbd_sees_each_part_of_a_long_paragraph_a_bounded_number_of_times(
    paragraph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linear in the length: bounded windows, which together are hardly longer than the paragraph."""
    seen: list[int] = []
    real = sentences._SEGMENTER.processor

    def counting(window: str) -> object:
        seen.append(len(window))
        return real(window)

    monkeypatch.setattr(sentences._SEGMENTER, "processor", counting)
    found = split_sentences(paragraph.strip())
    assert max(seen) <= 4_000
    assert sum(seen) <= 2 * len(paragraph)
    assert "".join(found).replace(" ", "") == paragraph.replace(" ", "")


@pytest.mark.parametrize(
    "sentence",
    [
        "Number {} says that Dr. Smith paid $5.83 at 5 p.m. on Jan. 5.",
        "It is {}.",
        "“It is {}. Yes.” So he said.",
    ],
)
def test_windows_do_not_show_in_the_sentences(sentence: str) -> None:
    """A long paragraph has the sentences of its parts, wherever the windows fall."""
    one = split_sentences(sentence.format(0))
    many = split_sentences(" ".join(sentence.format(0) for _ in range(24_000 // len(sentence))))
    assert many == one * (24_000 // len(sentence))


def test_windows_advance_whatever_pysbd_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each window shows one early boundary and no more, the next does not begin there."""
    seen: list[int] = []

    def one_early(window: str, within_quotes: bool) -> list[int]:  # noqa: ARG001 - the room's signature
        seen.append(len(window))
        return [5]

    monkeypatch.setattr(sentences, "_starts_in", one_early)
    split_sentences("Word. " * 10_000)
    assert sum(seen) <= 60_000


@pytest.mark.timeout(20)
def test_unclosed_references_take_no_exponential_time() -> None:
    """Digits after ".[" without an end would keep pysbd busy for ages."""
    assert split_sentences("See it.[" + "1234567890" * 30 + " and more. Done.")[-1] == "Done."


@given(st.text("ab ,;.—!。é\u0301🇩🇪", max_size=400), st.integers(20, 120))
@settings(deadline=None)
def test_parts_of_a_long_sentence_are_the_sentence(text: str, limit: int) -> None:
    """Parts are within the limit, in order, and all of the sentence but the spaces between them."""
    sentence = " ".join(text.split())
    parts = split_long(sentence, limit=limit, least=limit // 4)
    assert "".join(parts).replace(" ", "") == sentence.replace(" ", "")
    assert all(part == part.strip() and 0 < len(part) <= limit for part in parts)


def test_parts_avoid_scraps() -> None:
    """A cut leaves neither a scrap before it nor after it, where words allow."""
    assert min(map(len, split_long("ab " * 34 + "ab.", limit=100, least=20))) >= 20
    assert min(map(len, split_long("Well, " + "word " * 30, limit=100, least=20))) >= 20
    assert min(map(len, split_long("I " + "word" * 60, limit=100, least=20))) >= 20


def test_dashes_between_numbers_are_no_clause() -> None:
    """A range of years stays together; a dash between spaces, or an em dash, is a pause."""
    text = "the years from 1956–1960 and on to the others 1961–1970 and all"
    assert all("–" not in part[-1] for part in split_long(text, limit=30, least=5))
    assert split_long("some words come here — and others come after it", limit=30, least=5)[0].endswith("—")


def test_a_part_is_filled_to_the_limit_and_not_beyond() -> None:
    """The space after a part does not count, and a mark without a space after it does."""
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
