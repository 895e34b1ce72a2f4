"""Delay pattern: codes to a stream and back, and where a clip ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.higgs_oracle import trimmed
from transformers import HiggsAudioV2Processor

from gpu_worker.higgs.delay_pattern import BEGIN, END, MIN_STEPS, Codes, Stream, delay, force_pattern, undelay
from gpu_worker.higgs.slot_state import NO_END


def codes(frames: int) -> Codes:
    return np.random.default_rng(frames).integers(0, 1024, (8, frames)).astype(np.int16)


def stream_ending(frames: int, *, codebook: int, at: int, steps: int) -> Stream:
    """A random stream [steps, 8] whose first end code is `codebook`'s at step `at`, as the model makes it."""
    stream = np.random.default_rng(frames).integers(0, 1024, (steps, 8)).astype(np.int16)
    for step in range(steps):
        stream[step, max(step, 0) :] = BEGIN
        if step == at:
            stream[step, codebook] = END
        if step > at:
            stream[step, : step - at] = END
    return stream


@pytest.mark.parametrize("frames", [1, 2, 7, 30])
def test_delay_equals_transformers(frames: int) -> None:
    """The stream of a voice sample is the one that transformers' processor builds."""
    ids = SimpleNamespace(audio_stream_bos_id=BEGIN, audio_stream_eos_id=END)
    framed = np.concatenate([np.full((8, 1), BEGIN), codes(frames), np.full((8, 1), END)], axis=1)
    expected = HiggsAudioV2Processor.build_delay_pattern(ids, torch.from_numpy(framed)[None])
    np.testing.assert_array_equal(delay(codes(frames)), expected[0].T.numpy())


@given(frames=st.integers(0, 40))
def test_undelay_reverses_delay(frames: int) -> None:
    """Delayed and undelayed, the codes are the same and the clip has ended."""
    undelayed, ended = undelay(delay(codes(frames)))
    np.testing.assert_array_equal(undelayed, codes(frames))
    assert ended


@given(codebook=st.integers(0, 7), at=st.integers(1, 30), after=st.integers(7, 12))
def test_a_clip_ends_before_the_first_frame_with_an_end_code(codebook: int, at: int, after: int) -> None:
    """Whichever codebook ends it, the clip has exactly the complete frames before the end code."""
    if codebook >= at:
        return  # at that step the codebook still says the begin code
    stream = stream_ending(40, codebook=codebook, at=at, steps=at + after)
    clip, ended = undelay(stream)
    assert clip.shape == (8, at - 1 - codebook)
    assert ended
    np.testing.assert_array_equal(clip, trimmed(stream))


@given(codebook=st.integers(0, 7), at=st.integers(9, 30))
def test_seven_steps_after_the_first_end_code_complete_the_clip(codebook: int, at: int) -> None:
    """Further steps, until every codebook has ended, change no code."""
    early, _ = undelay(stream_ending(40, codebook=codebook, at=at, steps=at + 7))
    late, _ = undelay(stream_ending(40, codebook=codebook, at=at, steps=at + 9))
    np.testing.assert_array_equal(early, late)


@pytest.mark.parametrize("steps", [1, MIN_STEPS - 1, MIN_STEPS, 30])
def test_a_clip_cut_short_keeps_every_complete_frame(steps: int) -> None:
    """Without an end code every frame with all eight codes is kept, and the clip has not ended."""
    stream = stream_ending(40, codebook=0, at=1000, steps=steps)
    clip, ended = undelay(stream)
    assert clip.shape == (8, max(0, steps - 8))
    assert not ended
    np.testing.assert_array_equal(clip, trimmed(stream))


def test_an_end_code_right_after_the_last_complete_frame_ends_the_clip() -> None:
    """A cap at the very end of the clip cuts nothing; a cap one frame earlier does."""
    ended_at = 20
    assert undelay(stream_ending(40, codebook=0, at=ended_at, steps=ended_at + 7))[1]
    assert not undelay(stream_ending(40, codebook=0, at=ended_at, steps=ended_at + 6))[1]


def test_a_begin_code_in_the_middle_cuts_but_does_not_end() -> None:
    """The frame cannot be decoded and is left out; only an end code ends a clip."""
    stream = stream_ending(40, codebook=0, at=1000, steps=30)
    stream[12, 3] = BEGIN
    clip, ended = undelay(stream)
    assert clip.shape == (8, 12 - 1 - 3)
    assert not ended


def test_the_pattern_begins_and_ends_the_codebooks_one_by_one() -> None:
    """Codebook k begins at step k + 1 and ends k + 1 steps after the first end code."""
    sampled = torch.full((4, 8), 5)
    step = torch.tensor([1, 6, 21, 30])
    first_end = torch.tensor([NO_END, NO_END, 20, 20])
    forced = force_pattern(sampled, step, first_end).tolist()
    assert forced == [[5] + [BEGIN] * 7, [5] * 6 + [BEGIN] * 2, [END] + [5] * 7, [END] * 8]
