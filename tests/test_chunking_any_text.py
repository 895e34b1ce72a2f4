"""Chunks of any script: nothing lost, doubled or reordered, whatever the text holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.chunks import assert_lossless, assert_well_formed, limits, scripts, texts
from support.scripts import CORPUS, PYSBD_SENTINELS, markdown, plain, script_of, speakable

from narration.chunking import MAX_LIMIT, MIN_LIMIT, SHORT, chunk_script
from narration.script import Script, read_script


@given(scripts, limits)
@example(script_of(PYSBD_SENTINELS, f"One {PYSBD_SENTINELS}. Two ∯ three♨. Four ☝"), 500)
@settings(deadline=None, max_examples=300)
def test_chunks_hold_every_speakable_character_once_and_in_order(script: Script, limit: int) -> None:
    """For any Unicode text and limit, nothing speakable is lost, doubled or reordered."""
    chunks = chunk_script(script, limit=limit)
    assert_lossless(script, chunks)
    assert_well_formed(chunks, limit)


@given(st.text(st.sampled_from(PYSBD_SENTINELS + "aA1 .!?\"'“”([)]♥"), max_size=200))
@settings(deadline=None, max_examples=300)
def test_pysbds_own_sentinels_are_kept(text: str) -> None:
    """Characters that pysbd uses as internal marks are in the chunks like any others."""
    script = script_of(text)
    assert_lossless(script, chunk_script(script))


@given(scripts)
@settings(deadline=None, max_examples=50)
def test_the_same_script_gives_the_same_chunks(script: Script) -> None:
    """Chunking the same script twice gives equal chunks."""
    assert chunk_script(script) == chunk_script(script)


@pytest.mark.parametrize("path", sorted((CORPUS / "accepted").iterdir()), ids=lambda path: path.name)
@pytest.mark.parametrize("limit", [MIN_LIMIT, 500, MAX_LIMIT])
def test_every_script_in_the_corpus_is_chunked_without_loss(path: Path, limit: int) -> None:
    """Difficult scripts keep every speakable character; plain text keeps every one in the file."""
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
    """Text that looks like a model's control token is kept as it is; the worker treats it as text."""
    text = "<|eot_id|> ends nothing."
    assert texts(chunk_script(plain(text))) == [text]
    assert texts(chunk_script(markdown(text))) == [text]


def test_a_character_over_the_limit_is_cut_all_the_same() -> None:
    """A letter with thousands of combining marks is divided among chunks, and nothing is lost."""
    script = plain("e" + "\u0301" * 5_000)
    chunks = chunk_script(script)
    assert_lossless(script, chunks)
    assert_well_formed(chunks, 500)


@given(scripts, limits)
@settings(deadline=None, max_examples=100)
def test_no_chunk_ends_before_it_is_full(script: Script, limit: int) -> None:
    """Within a paragraph the next sentence did not fit, unless it was moved to a chunk that was too short."""
    chunks = chunk_script(script, limit=limit)
    for chunk, following in pairwise(chunks):
        first = following.sentences[0]
        moved = len(following.text) - len(first) - 1 < SHORT
        if chunk.boundary == "sentence" and not moved:
            assert len(chunk.text) + 1 + len(first) > limit
