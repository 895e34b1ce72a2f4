"""The sentences of a paragraph."""
# ruff: noqa: RUF001 - characters that resemble others are the point

from __future__ import annotations

import re

import pysbd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripts import nasty_text, speakable

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
def test_sentences_end_where_a_reader_would_end_them(sentences_: list[str]) -> None:
    """Periods of abbreviations, initials, decimals, numbers and quotations end no sentence."""
    assert split_sentences(" ".join(sentences_)) == sentences_


def test_wide_stops_end_sentences_without_a_space() -> None:
    """Chinese and Japanese sentences end without a space after them."""
    expected = ["你好。", "再见！", "真的吗？", "「是。」", "他说。"]
    assert split_sentences("".join(expected)) == expected


@given(nasty_text.map(lambda text: " ".join(text.split())), st.booleans())
@settings(deadline=None, max_examples=200)
def test_sentences_are_the_paragraph_cut_in_pieces(paragraph: str, within_quotes: bool) -> None:
    """Joined, the sentences are the paragraph to the character, and each holds something speakable."""
    result = split_sentences(paragraph, within_quotes=within_quotes)
    assert "".join(result).replace(" ", "") == paragraph.replace(" ", "")
    assert all(speakable(sentence) for sentence in result) or len(result) == 1


class Processor:
    """In place of pysbd's: gives `sentences`, or fails as pysbd does on some texts."""

    def __init__(self, sentences: list[str] | None) -> None:
        self.sentences = sentences

    def process(self) -> list[str]:
        if self.sentences is None:
            raise re.error("bad pattern")
        return self.sentences


@pytest.mark.parametrize(
    "answer",
    [
        ["One is here.", "Two is not really there!", "Three?"],
        ["One is here."],
        ["One is here.", "Three?"],
        None,
    ],
    ids=["other words", "the end missing", "the middle missing", "an exception"],
)
def test_a_paragraph_that_pysbd_alters_is_split_at_plain_ends(
    answer: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If pysbd's sentences are not the paragraph, or pysbd fails, plain full stops end the sentences."""
    monkeypatch.setattr(pysbd.Segmenter, "processor", lambda *_: Processor(answer))
    result = split_sentences("One is here. Two is there! Three?")
    assert result == ["One is here.", "Two is there!", "Three?"]


def test_pysbd_loses_its_own_sentinels() -> None:
    """pysbd drops or replaces its internal marks in a text, so that masking them is needed."""
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
def test_pysbd_is_given_a_long_paragraph_in_bounded_windows(
    paragraph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No window is over 4,000 characters, and together they are at most twice the paragraph: linear time."""
    lengths: list[int] = []
    real = pysbd.Segmenter.processor

    def counting(segmenter: pysbd.Segmenter, window: str) -> object:
        lengths.append(len(window))
        return real(segmenter, window)

    monkeypatch.setattr(pysbd.Segmenter, "processor", counting)
    result = split_sentences(paragraph.strip())
    assert max(lengths) <= 4_000
    assert sum(lengths) <= 2 * len(paragraph)
    assert "".join(result).replace(" ", "") == paragraph.replace(" ", "")


@pytest.mark.parametrize(
    "sentence",
    [
        "Number {} says that Dr. Smith paid $5.83 at 5 p.m. on Jan. 5.",
        "It is {}.",
        "“It is {}. Yes.” So he said.",
    ],
)
def test_sentences_do_not_depend_on_the_windows(sentence: str) -> None:
    """A long paragraph has the same sentences as its parts, wherever windows begin and end."""
    one = split_sentences(sentence.format(0))
    many = split_sentences(" ".join(sentence.format(0) for _ in range(24_000 // len(sentence))))
    assert many == one * (24_000 // len(sentence))


def test_windows_advance_whatever_pysbd_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """If pysbd ends a sentence only near the beginning of each window, windows still do not overlap."""
    lengths: list[int] = []

    def split_early(_: pysbd.Segmenter, window: str) -> Processor:
        lengths.append(len(window))
        return Processor([window[:5], window[5:].strip()])

    monkeypatch.setattr(pysbd.Segmenter, "processor", split_early)
    split_sentences("Word. " * 10_000)
    assert sum(lengths) <= 60_000


@pytest.mark.timeout(20)
def test_unclosed_references_take_no_exponential_time() -> None:
    """Digits after ".[" without a closing bracket, on which pysbd would not end, are split in time."""
    assert split_sentences("See it.[" + "1234567890" * 30 + " and more. Done.")[-1] == "Done."
