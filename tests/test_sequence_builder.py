"""Sequence builder: requests that do not fit a slot are refused, with the numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.engines import (
    CONVERSATIONS,
    OPTIONS,
    LoadedEngine,
    assert_same_codes,
    failing_loader,
    open_engine,
    request_of,
    synthesize,
)

from gpu_worker.higgs.capacity import DEFAULT_SLOT_LENGTH, DEFAULT_SLOTS
from gpu_worker.settings import WorkerSettings
from narration.contract import FRAME_RATE, ContractError, ErrorCode
from narration.speech_duration import expected_seconds


@pytest.mark.parametrize("cloned", [False, True])
async def test_a_request_too_long_for_a_slot_is_refused_with_its_three_numbers(
    endless_model_folder: Path, codec_folder: Path, cloned: bool
) -> None:
    """It is refused if not even half of max_new_tokens fits; else the clip is cut and says `length`.

    The error names prompt, voice and max_new_tokens; for a text too long by itself no sample is loaded.
    """
    conversation = CONVERSATIONS[1] if cloned else CONVERSATIONS[0]
    options = replace(OPTIONS, slots=1, slot_length=192)
    async with open_engine(endless_model_folder, codec_folder, options) as loaded:
        engine = loaded.engine
        fitting = await synthesize(engine, conversation, max_new_tokens=20)
        voice = 0 if not cloned else 32 + 9  # frames of 30,000 samples, and their begin, end and delay
        text = len(fitting.prompt_ids) - voice
        room = 192 - text - voice
        cut = [await synthesize(engine, conversation, max_new_tokens=cap) for cap in (room, 2 * room)]
        with pytest.raises(ContractError) as refused:
            await synthesize(engine, conversation, max_new_tokens=2 * room + 1)
        request, _ = request_of(CONVERSATIONS[1], max_new_tokens=380)
        with pytest.raises(ContractError):
            await engine.synthesize_traced(request, failing_loader)
    lengths = [(clip.utterance.frames, clip.utterance.finish_reason) for clip in cut]
    assert lengths == [(room - 8, "length")] * 2
    assert_same_codes(cut[:1], cut[1:])
    assert_same_codes([fitting], [replace(cut[0], codes=cut[0].codes[:, :12])])
    failure = refused.value.failure
    assert failure.error_code == ErrorCode.REQUEST_TOO_LONG
    assert not failure.retryable
    for number in (f"prompt {text}", f"voice {voice}", f"max_new_tokens {2 * room + 1}", "192"):
        assert number in failure.error


def test_a_full_chunk_fits_a_slot_of_the_default_length() -> None:
    """500 characters in a voice of 30 s, a third slower than expected; and 32 such slots fit into 24 GB."""
    length = DEFAULT_SLOT_LENGTH
    voice = 30 * FRAME_RATE + 9
    text_tokens = 60 + (500 + 450) // 3  # the layout's; text's and transcript's, at three characters a token
    text = ("The leaders of the company promised that investment would follow before the winter. " * 6)[:500]
    assert length - voice - text_tokens >= 1.35 * expected_seconds(text) * FRAME_RATE
    # Bytes: 5.377e9 weights in bfloat16 and the codec's 0.2e9 in float32; 28 layers of 8 key heads.
    weights = 2 * 5.377e9 + 4 * 0.2e9
    slots = DEFAULT_SLOTS * length * 28 * 2 * 8 * 128 * 2
    prefixes = WorkerSettings.model_fields["prefix_cache_mb"].default << 20
    assert weights + slots + prefixes < 24e9 - 2.75e9  # for libraries, a prefill's and the codec's work


async def test_too_few_steps_for_a_frame_are_refused(shared: LoadedEngine) -> None:
    """Eight steps complete no frame; the refusal names the field."""
    with pytest.raises(ContractError, match="max_new_tokens") as refused:
        await synthesize(shared.engine, CONVERSATIONS[0], max_new_tokens=8)
    assert refused.value.failure.error_code == ErrorCode.INVALID_INPUT
