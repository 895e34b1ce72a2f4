"""Chunks: whole sentences up to a limit, nothing lost, doubled or reordered."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.scripts import CORPUS, PYSBD_SENTINELS, markdown, nasty_text, plain, script_of, speakable

from narration.chunking import MAX_LIMIT, MIN_LIMIT, SHORT, Chunk, chunk_script
from narration.errors import SettingsError
from narration.script import Script, read_script
from narration.script.paragraph import Paragraph
from narration.speech_duration import expected_seconds

EXPLAINER = Path(__file__).parent.parent / "examples" / "explainer.md"

CLUSTERS = [
    "e\u0301\u0323", "👨\u200d👩\u200d👧\u200d👦", "👋🏽", "🇩🇪", "🏴\U000e0067\U000e007f", "❤\ufe0f",
    "क्षि", "\u1112\u1161\u11ab", "น้",
]  # fmt: skip
"""Sequences of characters that a reader sees as one."""

limits = st.one_of(st.sampled_from([MIN_LIMIT, 41, 160, 500]), st.integers(MIN_LIMIT, MAX_LIMIT))
paragraphs = st.builds(
    lambda text, kind: Paragraph(text, kind, 2 if kind == "heading" else 0),
    nasty_text,
    st.sampled_from(["heading", "paragraph", "paragraph", "item", "item"]),
)
scripts = st.lists(paragraphs, max_size=6).map(lambda all_: Script(tuple(all_), None, "0" * 64, b""))


def texts(chunks: tuple[Chunk, ...]) -> list[str]:
    return [chunk.text for chunk in chunks]


def assert_lossless(script: Script, chunks: tuple[Chunk, ...]) -> None:
    """Every letter, mark, number and symbol once and in order, in the texts and in their sentences."""
    expected = "".join(speakable(paragraph.text) for paragraph in script.paragraphs)
    assert speakable("".join(texts(chunks))) == expected
    assert speakable("".join(s for chunk in chunks for s in chunk.sentences)) == expected


def assert_well_formed(chunks: tuple[Chunk, ...], limit: int) -> None:
    """What holds of chunks from any script."""
    assert [chunk.index for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk.boundary == "end" for chunk in chunks] == [False] * (len(chunks) - 1) + [True] * bool(
        chunks
    )
    for chunk in chunks:
        assert len(chunk.text) <= limit
        assert chunk.text == " ".join(chunk.sentences)
        assert all(sentence and sentence == " ".join(sentence.split()) for sentence in chunk.sentences)
        assert all(speakable(sentence) for sentence in chunk.sentences)
        assert (chunk.kind == "heading") == (chunk.level > 0)


# Nothing lost


@given(scripts, limits)
@example(script_of(PYSBD_SENTINELS, f"One {PYSBD_SENTINELS}. Two ∯ three♨. Four ☝"), 500)
@settings(deadline=None, max_examples=300)
def test_chunks_hold_every_speakable_character_once_and_in_order(script: Script, limit: int) -> None:
    """Over arbitrary Unicode: nothing speakable is lost, doubled or reordered, at any limit."""
    chunks = chunk_script(script, limit=limit)
    assert_lossless(script, chunks)
    assert_well_formed(chunks, limit)


@given(st.text(st.sampled_from(PYSBD_SENTINELS + "aA1 .!?\"'“”([)]♥"), max_size=200))
@settings(deadline=None, max_examples=300)
def test_pysbds_own_sentinels_cost_nothing(text: str) -> None:
    """Text made of the characters that pysbd uses for itself comes through like any other."""
    script = script_of(text)
    assert_lossless(script, chunk_script(script))


@given(scripts)
@settings(deadline=None, max_examples=50)
def test_the_same_script_gives_the_same_chunks(script: Script) -> None:
    """Chunking depends on the script and the limit alone."""
    assert chunk_script(script) == chunk_script(script)


@pytest.mark.parametrize("path", sorted((CORPUS / "accepted").iterdir()), ids=lambda path: path.name)
@pytest.mark.parametrize("limit", [MIN_LIMIT, 500, MAX_LIMIT])
def test_every_script_in_the_corpus_is_chunked_without_loss(path: Path, limit: int) -> None:
    """Nasty scripts keep every speakable character; of plain text, every one in the file."""
    script = read_script(path)
    chunks = chunk_script(script, limit=limit)
    assert chunks
    assert_lossless(script, chunks)
    assert_well_formed(chunks, limit)
    if path.suffix == ".txt":
        data = script.source
        text = data.decode("utf-16" if data.startswith(b"\xff\xfe") else "utf-8-sig")
        assert speakable("".join(texts(chunks))) == speakable(text)


def test_special_tokens_of_a_model_stay_plain_text() -> None:
    """What would be control to a model is kept letter by letter, for the worker to treat as text."""
    text = "<|eot_id|> ends nothing."
    assert texts(chunk_script(plain(text))) == [text]
    assert texts(chunk_script(markdown(text))) == [text]


# Chunks


def test_sentences_fill_a_chunk_up_to_the_limit() -> None:
    """A chunk takes the next sentence when it still fits, to the character."""
    sentence = "A sentence of exactly fifty characters is in here."
    assert len(sentence) == 50
    script = plain(" ".join([sentence] * 5))
    assert [len(chunk.sentences) for chunk in chunk_script(script, limit=101)] == [2, 2, 1]
    assert [len(chunk.sentences) for chunk in chunk_script(script, limit=100)] == [1, 1, 1, 1, 1]


SLOW = {
    "Chinese": "人工智能正在改变我们的世界。它带来了新的机会和挑战。" * 60,
    "Japanese": "人工知能は私たちの世界を変えています。新しい機会と課題をもたらしています。" * 40,
    "Korean": "인공지능은 우리의 세계를 바꾸고 있습니다. 새로운 기회를 가져옵니다. " * 40,
    "digits": "The number is 12345 67890 12345 67890. " * 40,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_text_that_takes_long_to_say_fills_no_more_time_than_any_other(text: str) -> None:
    """500 characters of Chinese are two minutes of speech, which no worker's slot holds."""
    chunks = chunk_script(plain(text))
    seconds = [expected_seconds(chunk.text) for chunk in chunks]
    assert max(seconds) <= 45
    assert min(seconds[:-1]) > 15, "and it is not cut finer than that asks for"


def test_an_edit_of_slow_text_moves_no_later_chunk_boundary_of_its_paragraph() -> None:
    """The limit goes by steps: another sign at the end leaves all chunks before it as they were."""
    before, after = (chunk_script(plain(SLOW["Chinese"] + more)) for more in ("", "好。"))
    assert before[:-1] == after[: len(before) - 1]


def test_no_chunk_crosses_a_heading() -> None:
    """A heading is its own chunk, with its level, however short it and its neighbours are."""
    chunks = chunk_script(markdown("# A\n\n## B\nc\n\n# D\n\n- e\n- f\n\n### G"))
    assert [(chunk.kind, chunk.level, chunk.text) for chunk in chunks] == [
        ("heading", 1, "A."),
        ("heading", 2, "B."),
        ("text", 0, "c."),
        ("heading", 1, "D."),
        ("text", 0, "e. f."),
        ("heading", 3, "G."),
    ]


def test_boundaries_say_what_lies_between_two_chunks() -> None:
    """A heading on either side, else a paragraph's end, else a sentence's; the last is the end."""
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
def test_what_ends_without_punctuation_gets_a_period(text: str, spoken: str) -> None:
    """Headings, items and paragraphs end in a mark that lets the voice fall, their own if they have one."""
    for frame in ("# {}", "- {}", "{}"):
        assert texts(chunk_script(markdown(frame.format(text)))) == [spoken]


def test_a_period_that_no_longer_fits_is_left_out() -> None:
    """The added period never makes a chunk too long nor stands alone."""
    chunks = chunk_script(plain("x" * 500))
    assert "".join(texts(chunks)).startswith("x" * 500)
    assert all(len(chunk.text) <= 500 and "x" in chunk.text for chunk in chunks)


def test_short_paragraphs_join_what_follows_and_the_last_what_precedes() -> None:
    """A paragraph too short to be spoken well shares a chunk with its neighbour in the section."""
    long = "This paragraph is long enough to be spoken on its own."
    assert len("Why?") < SHORT <= len(long)
    joined = chunk_script(plain(f"Why?\n\n{long}\n\n{long}\n\nThat is why"))
    assert texts(joined) == [f"Why? {long}", f"{long} That is why."]
    apart = chunk_script(markdown(f"Why?\n\n# H\n\n{long}"))
    assert texts(apart) == ["Why?", "H.", long]


def test_short_items_of_a_list_share_chunks_and_long_ones_do_not() -> None:
    """A list of words is spoken in one breath, a list of sentences item by item."""
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


def test_a_short_last_sentence_is_not_left_alone() -> None:
    """Where the rest of a paragraph would be too short a chunk, the chunk before lends it a sentence."""
    sentence = "This is one of several sentences that are about sixty long."
    chunks = chunk_script(plain(f"{sentence} {sentence} {sentence} Right?"), limit=180)
    assert texts(chunks) == [f"{sentence} {sentence}", f"{sentence} Right?"]


def test_a_lender_keeps_enough_for_itself() -> None:
    """A chunk does not become too short by lending."""
    first, second = "Yes.", "This one is a sentence of about sixty characters, I think."
    chunks = chunk_script(plain(f"{first} {second} Right?"), limit=len(first) + 3 + len(second))
    assert texts(chunks) == [f"{first} {second}", "Right?"]


@given(scripts, limits)
@settings(deadline=None, max_examples=100)
def test_no_chunk_ends_before_it_is_full(script: Script, limit: int) -> None:
    """Within a paragraph, the next sentence would not have fitted, unless a short chunk borrowed it."""
    chunks = chunk_script(script, limit=limit)
    for chunk, following in pairwise(chunks):
        first = following.sentences[0]
        borrowed = len(following.text) - len(first) - 1 < SHORT
        if chunk.boundary == "sentence" and not borrowed:
            assert len(chunk.text) + 1 + len(first) > limit


def test_a_long_sentence_is_cut_at_clauses_then_words() -> None:
    """A sentence over the limit is cut at a semicolon, else a comma, else a space, and never elsewhere."""
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
    """pysbd holds a quotation together; one over the limit ends where its own sentences do."""
    quoted = [f"This is sentence number {n}, by Dr. Who." for n in range(10)]
    chunks = chunk_script(plain(f"He said: “{' '.join(quoted)}” And left."), limit=150)
    assert all(sentence.endswith((".", "”")) for chunk in chunks for sentence in chunk.sentences)
    assert any("number 5, by Dr. Who." in sentence for chunk in chunks for sentence in chunk.sentences)
    fitting = "He said: “I came. I saw. I conquered.”"
    assert chunk_script(plain(fitting), limit=len(fitting))[0].sentences == (fitting,)


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("lead", ["", "a"])
def test_a_word_over_the_limit_is_never_cut_inside_a_character(cluster: str, lead: str) -> None:
    """The cut in a 10,000-character word falls between what a reader sees as characters."""
    word = lead + cluster * (10_000 // len(cluster))
    for limit in (20, 53, 500):
        parts = texts(chunk_script(plain(word), limit=limit))
        assert all(re.fullmatch(f"(?:{cluster})+[.]?", part) for part in [parts[0][len(lead) :], *parts[1:]])
        full = limit if limit < 500 else 80  # emoji take long to say
        assert max(map(len, parts)) > full - 2 * len(cluster)


def test_a_character_over_the_limit_is_cut_all_the_same() -> None:
    """A letter with thousands of marks still ends up in chunks."""
    script = plain("e" + "\u0301" * 5_000)
    chunks = chunk_script(script)
    assert_lossless(script, chunks)
    assert_well_formed(chunks, 500)


@pytest.mark.parametrize("limit", [MIN_LIMIT - 1, MAX_LIMIT + 1, 0, -1])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    """The contract's prompt holds 2,000 characters; less than a word is no chunk."""
    with pytest.raises(SettingsError, match="20 to 2000"):
        chunk_script(plain("One."), limit=limit)


def test_a_changed_word_changes_the_chunks_of_its_paragraph_only() -> None:
    """Whichever sentence of the explainer is edited, at most its paragraph's chunks are new."""
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
