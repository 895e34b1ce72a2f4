"""Continuity context: whole sentences from the end of the clip before, cut in a pause."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import RATE, silence, speak, tone

from narration import audio
from narration.chunking.sentences import split_sentences
from narration.synthesis.continuity import MAX_CONTEXT, cut_context

SENTENCES = [
    "The lamp on the landing had been burning since the early afternoon.",
    "Nobody in the house could say who had lit it, or why it was there.",
    "They went up one after the other, and they did not speak.",
    "At the top they found the door open.",
]
TEXT = " ".join(SENTENCES)
PAUSE = 0.45  # s between sentences


def spoken(*sentences: str) -> tuple[bytes, list[int]]:
    """A clip of the sentences with pauses between, and the sample in the middle of each pause."""
    parts: list[np.ndarray] = []
    middles: list[int] = []
    for sentence in sentences:
        if parts:
            middles.append(sum(map(len, parts)) + round(PAUSE * RATE / 2))
            parts.append(silence(PAUSE))
        voice = speak(sentence)
        loud = np.flatnonzero(np.abs(voice) > 0.01)
        parts.append(voice[loud[0] : loud[-1] + 1])
    return audio.encode_flac(np.concatenate(parts), RATE), middles


def test_a_clip_within_the_limit_is_the_whole_context() -> None:
    """No sample and no word is left out."""
    flac, _ = spoken(SENTENCES[0])
    context = cut_context(flac, SENTENCES[0])
    assert (context.text, context.flac) == (SENTENCES[0], flac)


def test_a_longer_clip_is_cut_at_the_pause_before_its_last_sentences() -> None:
    """As many whole sentences as fit, with their audio from the middle of the pause before them."""
    flac, middles = spoken(*SENTENCES)
    whole, _ = audio.decode(flac)
    assert len(whole) > 1.3 * MAX_CONTEXT * RATE
    context = cut_context(flac, TEXT)
    assert context.text is not None
    kept = split_sentences(context.text)
    assert kept == SENTENCES[-len(kept) :]
    sound, rate = audio.decode(context.flac)
    assert rate == RATE
    assert len(sound) <= MAX_CONTEXT * RATE
    first = len(SENTENCES) - len(kept)
    assert abs(len(whole) - len(sound) - middles[first - 1]) < 0.15 * RATE
    assert np.array_equal(sound, whole[len(whole) - len(sound) :])
    longer = len(whole) - middles[first - 2] if first > 1 else len(whole)
    assert longer > MAX_CONTEXT * RATE  # one sentence more would not have fitted


def test_the_same_clip_gives_the_same_context() -> None:
    """The digest of the next clip covers its context by the digest of this one."""
    flac, _ = spoken(*SENTENCES)
    assert cut_context(flac, TEXT) == cut_context(flac, TEXT)


@pytest.mark.parametrize(
    ("flac", "text"),
    [
        (audio.encode_flac(tone(12.0), RATE), TEXT),
        (audio.encode_flac(np.concatenate([tone(1.0), silence(PAUSE), tone(11.0)]), RATE), TEXT),
        (audio.encode_flac(np.concatenate([tone(6.0), silence(PAUSE), tone(6.0)]), RATE), SENTENCES[0]),
    ],
    ids=["no pause at all", "no pause in reach", "one sentence"],
)
def test_without_a_sentence_end_in_reach_there_is_no_context(flac: bytes, text: str) -> None:
    """A text and an audio that do not match would be worse than no context."""
    context = cut_context(flac, text)
    assert (context.text, context.flac) == (None, b"")


@settings(deadline=None, max_examples=60)
@given(
    sounds=st.lists(st.floats(0.3, 5.0), min_size=1, max_size=6),
    text=st.text(min_size=1, max_size=200),
)
def test_a_context_is_never_longer_than_allowed(sounds: list[float], text: str) -> None:
    """For any clip and text: the end of both, at most eight seconds long, or no context."""
    parts: list[np.ndarray] = [tone(sounds[0])]
    for seconds in sounds[1:]:
        parts += [silence(PAUSE), tone(seconds)]
    whole = np.concatenate(parts)
    context = cut_context(audio.encode_flac(whole, RATE), text)
    if context.text is None:
        assert context.flac == b""
        return
    sound, _ = audio.decode(context.flac)
    assert len(sound) <= MAX_CONTEXT * RATE
    assert np.abs(sound - whole[len(whole) - len(sound) :]).max() < 1e-4
    words = [sentence.split() for sentence in split_sentences(text)]
    ends = [list(chain(*words[first:])) for first in range(len(words))]
    assert context.text == text or context.text.split() in ends


def test_the_text_of_these_tests_is_split_into_its_sentences() -> None:
    """The tests above rely on it."""
    assert split_sentences(TEXT) == SENTENCES
    assert all(a < b for a, b in pairwise(spoken(*SENTENCES)[1]))
