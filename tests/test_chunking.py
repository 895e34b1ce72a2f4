"""Chunks: which sentences are spoken in one request."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.chunks import texts
from support.scripts import markdown, plain

from narration.chunking import MAX_LIMIT, MIN_LIMIT, SHORT, chunk_script
from narration.errors import SettingsError
from narration.speech_duration import expected_seconds

EXPLAINER = Path(__file__).parent.parent / "examples" / "explainer.md"


def test_sentences_fill_a_chunk_up_to_the_limit() -> None:
    """A chunk takes the next sentence if it still fits, to the character."""
    sentence = "A sentence of exactly fifty characters is in here."
    assert len(sentence) == 50
    script = plain(" ".join([sentence] * 5))
    assert [len(chunk.sentences) for chunk in chunk_script(script, limit=101)] == [2, 2, 1]
    assert [len(chunk.sentences) for chunk in chunk_script(script, limit=100)] == [1, 1, 1, 1, 1]


SLOW_TEXTS = {
    "Chinese": "人工智能正在改变我们的世界。它带来了新的机会和挑战。" * 60,
    "Japanese": "人工知能は私たちの世界を変えています。新しい機会と課題をもたらしています。" * 40,
    "Korean": "인공지능은 우리의 세계를 바꾸고 있습니다. 새로운 기회를 가져옵니다. " * 40,
    "digits": "The number is 12345 67890 12345 67890. " * 40,
}


@pytest.mark.parametrize("text", SLOW_TEXTS.values(), ids=SLOW_TEXTS)
def test_text_that_is_slow_to_say_has_a_lower_limit(text: str) -> None:
    """500 characters of Chinese would be two minutes of speech: more than a request may take."""
    chunks = chunk_script(plain(text))
    seconds = [expected_seconds(chunk.text) for chunk in chunks]
    assert max(seconds) <= 45
    assert min(seconds[:-1]) > 15, "the limit is not lower than needed"


def test_an_edit_at_the_end_of_slow_text_changes_only_the_last_chunk() -> None:
    """The lower limit is a whole fraction, so that an added character does not change it."""
    before, after = (chunk_script(plain(SLOW_TEXTS["Chinese"] + more)) for more in ("", "好。"))
    assert before[:-1] == after[: len(before) - 1]


def test_no_chunk_crosses_a_heading() -> None:
    """A heading is a chunk of its own with its level, however short it and its neighbours are."""
    chunks = chunk_script(markdown("# A\n\n## B\nc\n\n# D\n\n- e\n- f\n\n### G"))
    assert [(chunk.kind, chunk.level, chunk.text) for chunk in chunks] == [
        ("heading", 1, "A."),
        ("heading", 2, "B."),
        ("text", 0, "c."),
        ("heading", 1, "D."),
        ("text", 0, "e. f."),
        ("heading", 3, "G."),
    ]


def test_a_boundary_says_what_separates_two_chunks() -> None:
    """A heading on either side, else the end of a paragraph, else that of a sentence; the last is "end"."""
    long = "This is a sentence with more than forty characters."
    source = f"{long} {long} {long}\n\n{long}\n\n# {'Heading ' * 20}\n\n- {long}\n- {long}"
    chunks = chunk_script(markdown(source), limit=110)
    assert [chunk.boundary for chunk in chunks] == [
        "sentence", "paragraph", "heading", "sentence", "heading", "paragraph", "end",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("What it costs", "What it costs."),
        ("What does it cost?", "What does it cost?"),
        ('He said "go"', 'He said "go".'),
        ('He said "go."', 'He said "go."'),
        ("Costs (in dollars)", "Costs (in dollars)."),
        ("What you need:", "What you need:"),
        ("And then…", "And then…"),
        ("Up 100%", "Up 100%."),
        ("Well done! 🎉", "Well done! 🎉"),
        ("Well done 🎉", "Well done 🎉."),
        ("价格。", "价格。"),
    ],
)
def test_text_that_ends_without_punctuation_gets_a_period(text: str, spoken: str) -> None:
    """Headings, items and paragraphs end in a mark at which the voice falls, their own if they have one."""
    for frame in ("# {}", "- {}", "{}"):
        assert texts(chunk_script(markdown(frame.format(text)))) == [spoken]


def test_a_period_that_no_longer_fits_is_left_out() -> None:
    """The added period never makes a chunk too long and is never a chunk of its own."""
    chunks = chunk_script(plain("x" * 500))
    assert "".join(texts(chunks)).startswith("x" * 500)
    assert all(len(chunk.text) <= 500 and "x" in chunk.text for chunk in chunks)


def test_a_short_paragraph_joins_the_next_one_and_the_last_the_one_before() -> None:
    """A paragraph too short to be spoken well shares a chunk with its neighbour in the same section."""
    long = "This paragraph is long enough to be spoken on its own."
    assert len("Why?") < SHORT <= len(long)
    joined = chunk_script(plain(f"Why?\n\n{long}\n\n{long}\n\nThat is why"))
    assert texts(joined) == [f"Why? {long}", f"{long} That is why."]
    apart = chunk_script(markdown(f"Why?\n\n# H\n\n{long}"))
    assert texts(apart) == ["Why?", "H.", long]


def test_short_items_of_a_list_share_chunks_and_long_ones_do_not() -> None:
    """A list of words is one chunk; each item of a list of sentences is a chunk of its own."""
    words = [
        "milk",
        "eggs",
        "bread",
        "butter",
        "salt",
        "pepper",
        "sugar",
        "coffee",
        "tea",
        "rice",
        "beans",
    ] * 3
    chunks = chunk_script(markdown("\n".join(f"- {word}" for word in words)))
    assert texts(chunks) == [" ".join(f"{word}." for word in words)]
    assert chunks[0].sentences == tuple(f"{word}." for word in words)
    items = [f"Item {n} is a sentence that can well stand by itself." for n in range(3)]
    assert texts(chunk_script(markdown("\n".join(f"- {item}" for item in items)))) == items


def test_a_short_last_sentence_takes_the_one_before_it_along() -> None:
    """If the last chunk of a paragraph is too short, the last sentence of the chunk before moves to it."""
    sentence = "This is one of several sentences that are about sixty long."
    chunks = chunk_script(plain(f"{sentence} {sentence} {sentence} Right?"), limit=180)
    assert texts(chunks) == [f"{sentence} {sentence}", f"{sentence} Right?"]


def test_a_chunk_gives_no_sentence_away_that_it_needs() -> None:
    """No sentence moves if the chunk it leaves would become too short."""
    first, second = "Yes.", "This one is a sentence of about sixty characters, I think."
    chunks = chunk_script(plain(f"{first} {second} Right?"), limit=len(first) + 3 + len(second))
    assert texts(chunks) == [f"{first} {second}", "Right?"]


@pytest.mark.parametrize("limit", [MIN_LIMIT - 1, MAX_LIMIT + 1, 0, -1])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    """A request's prompt holds 2,000 characters, and a chunk has room for at least a word."""
    with pytest.raises(SettingsError, match="20 to 2000"):
        chunk_script(plain("One."), limit=limit)


def test_a_changed_word_changes_the_chunks_of_its_paragraph_only() -> None:
    """Whichever word of the explainer is changed, only chunks of its paragraph are new."""
    source = EXPLAINER.read_text(encoding="utf-8").rpartition("-->")[2]
    words = sorted(set(re.findall(r"\b[a-z]{5,}\b", source)))[::3]
    once = [word for word in words if source.count(word) == 1]
    assert len(once) >= 40
    for limit in (120, 500):
        before = chunk_script(markdown(source), limit=limit)
        for word in once:
            after = chunk_script(markdown(source.replace(word, "supercalifragilistic")), limit=limit)
            new = [chunk for chunk in after if chunk.text not in texts(before)]
            gone = [chunk for chunk in before if chunk.text not in texts(after)]
            # The edited chunk and those after it, up to its paragraph's end.
            assert [c.index for c in new] == list(range(new[0].index, new[0].index + len(new)))
            assert all(chunk.boundary == "sentence" for chunk in [*new[:-1], *gone[:-1]])
            if limit == 500:
                assert len(new) == 1
