"""The Higgs engine: transformers' codes, many requests at a time; timings, cancellation, draining."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from support.engines import (
    BERT,
    CONVERSATIONS,
    MAX_NEW_TOKENS,
    OPTIONS,
    LoadedEngine,
    assert_same_codes,
    open_engine,
    request_of,
    sample_loader,
    synthesize,
    synthesize_all,
)
from support.higgs_oracle import Conversation, Oracle, trimmed
from support.tiny_higgs import SMALL_FIRST_ID, write_tiny_higgs

from gpu_worker.engine_protocol import VoiceSample
from gpu_worker.higgs.codec import tokenizer_classes
from gpu_worker.higgs.delay_pattern import END
from gpu_worker.higgs.sequence import Status
from narration.contract import ContractError, ErrorCode


@pytest.fixture(params=["published ids", "small ids"])
def checkpoint(request: pytest.FixtureRequest, published_model_folder: Path, model_folder: Path) -> Path:
    return published_model_folder if request.param == "published ids" else model_folder


@pytest.mark.parametrize("launches_ahead", [0, 1], ids=["read at once", "read one launch late"])
async def test_greedy_codes_and_prompts_equal_transformers(
    checkpoint: Path, codec_folder: Path, launches_ahead: int
) -> None:
    """Requests of unequal length with scenes, voices and contexts, more than slots: as `generate()` alone."""
    oracle = Oracle(checkpoint, codec_folder)
    options = replace(OPTIONS, launches_ahead=launches_ahead)  # 1 as on a CUDA device
    async with open_engine(checkpoint, codec_folder, options) as loaded:
        together = await synthesize_all(loaded.engine, CONVERSATIONS)
        alone = await synthesize(loaded.engine, CONVERSATIONS[1])
    ending_codebooks: set[int] = set()
    for conversation, traced in zip(CONVERSATIONS, together, strict=True):
        stream = oracle.stream(conversation, max_steps=MAX_NEW_TOKENS)
        np.testing.assert_array_equal(traced.codes, trimmed(stream))
        assert traced.prompt_ids == oracle.inputs(conversation)["input_ids"][0].tolist()
        assert traced.utterance.finish_reason == ("stop" if END in stream else "length")
        if END in stream:
            first = stream[(stream == END).any(axis=1).argmax()]
            ending_codebooks |= set(np.flatnonzero(first == END).tolist())
    assert_same_codes([alone], [together[1]])
    assert len(ending_codebooks) >= 3, "the conversations no longer end by different codebooks"


async def test_a_clip_of_n_frames_has_n_frames(tmp_path: Path, codec_folder: Path) -> None:
    """The end frame does not count: n codes, 960 n samples; the cap cuts whole frames and is reported."""
    frames = 30
    counting = write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, counting=frames)
    caps = [MAX_NEW_TOKENS, frames + 8, frames + 7, 9]  # step 0, then seven steps to complete the last frame
    async with open_engine(counting, codec_folder) as loaded:
        clips = [await synthesize(loaded.engine, Conversation("Count."), max_new_tokens=cap) for cap in caps]
    utterances = [clip.utterance for clip in clips]
    assert [one.frames for one in utterances] == [frames, frames, frames - 1, 1]
    assert [one.finish_reason for one in utterances] == ["stop", "stop", "length", "length"]
    for clip in clips:
        assert clip.codes[0].tolist() == list(range(clip.utterance.frames))
        assert clip.utterance.waveform.shape == (960 * clip.utterance.frames,)
        assert np.abs(clip.utterance.waveform).max() <= 1


async def test_the_waveform_is_the_codecs_of_the_codes(shared: LoadedEngine, codec_folder: Path) -> None:
    """Clips that are decoded together have the samples of each clip decoded alone and whole."""
    clips = await synthesize_all(shared.engine, CONVERSATIONS[:4])
    model = tokenizer_classes()[1].from_pretrained(codec_folder).eval()
    for clip in clips:
        codes = torch.from_numpy(clip.codes[None].astype(np.int64))
        with torch.inference_mode():
            whole = model.decode(codes).audio_values[0, 0].numpy()
        np.testing.assert_allclose(clip.utterance.waveform, np.clip(whole, -1, 1), atol=1e-5)


async def test_the_configuration_names_all_that_the_codes_depend_on(shared: LoadedEngine) -> None:
    """Device, dtype, slots and versions: under an equal configuration a seed repeats its codes."""
    assert shared.engine.configuration == {
        "engine": "higgs",
        "device": "cpu",
        "dtype": "float32",
        "codec": "float32",
        "snake": "plain",
        "attention": "plain",
        "sampler": "plain",
        "slots": 3,
        "slot_length": 384,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    assert {type(value) for value in shared.engine.configuration.values()} <= {str, int}


async def test_cancelling_frees_the_slot(endless_model_folder: Path, codec_folder: Path) -> None:
    """A request cancelled while it runs, or while it waits, leaves its place to the next request."""
    long = request_of(CONVERSATIONS[0], max_new_tokens=300)
    async with open_engine(endless_model_folder, codec_folder, replace(OPTIONS, slots=1)) as loaded:
        scheduler = loaded.scheduler
        running, waiting = (asyncio.ensure_future(loaded.engine.synthesize_traced(*long)) for _ in range(2))
        async with asyncio.timeout(60):
            while not scheduler.waiting:  # noqa: ASYNC110 -- another thread changes it
                await asyncio.sleep(0.001)
        cancelled = scheduler.unfinished()
        for task in (waiting, running):
            task.cancel()
        next_clip = await synthesize(loaded.engine, CONVERSATIONS[1], max_new_tokens=20)
        assert next_clip.utterance.frames == 12
        for task in (running, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert scheduler.unfinished() == []
        assert [sequence.status for sequence in cancelled] == [Status.DROPPED] * 2


async def test_draining_finishes_requests_in_progress_and_refuses_new_ones(
    model_folder: Path, codec_folder: Path
) -> None:
    """Requests in progress get their clips; a new one fails as retryable, for another worker."""
    async with open_engine(model_folder, codec_folder) as loaded:
        in_progress = [asyncio.ensure_future(synthesize(loaded.engine, one)) for one in CONVERSATIONS]
        await asyncio.sleep(0)
        draining = asyncio.ensure_future(loaded.engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(ContractError) as refused:
            await synthesize(loaded.engine, CONVERSATIONS[0])
        failure = refused.value.failure
        assert (failure.error_code, failure.retryable) == (ErrorCode.SHUTTING_DOWN, True)
        assert all(clip.utterance.frames for clip in await asyncio.gather(*in_progress))
        await draining


async def test_timings_cover_a_requests_whole_time(endless_model_folder: Path, codec_folder: Path) -> None:
    """Voice, queue, prefill, decode and codec add up to the total."""

    async def slow_loader() -> VoiceSample:
        await asyncio.sleep(0.2)
        return await sample_loader("What Bert says.", BERT)()

    async with open_engine(endless_model_folder, codec_folder, replace(OPTIONS, slots=1)) as loaded:
        request, _ = request_of(CONVERSATIONS[3])
        cloned = await loaded.engine.synthesize_traced(request, slow_loader)
        first, second = await synthesize_all(loaded.engine, [CONVERSATIONS[0]] * 2, max_new_tokens=300)
    spent = [clip.utterance.timings for clip in (cloned, first, second)]
    assert spent[0].voice >= 0.2
    assert spent[1].voice < spent[1].decode
    assert (
        spent[1].queue < spent[1].decode / 2 < spent[2].queue
    )  # with one slot the second waits for the first
    for timings in spent:
        parts = (timings.voice, timings.queue, timings.prefill, timings.decode, timings.codec)
        assert min(parts[2:]) > 0
        assert sum(parts) == pytest.approx(timings.total, rel=0.01)
