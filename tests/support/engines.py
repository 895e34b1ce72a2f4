"""Higgs engines on tiny checkpoints, with their parts in reach, and requests for conversations."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_worker.engine_protocol import SampleLoader, VoiceSample, Waveform
from gpu_worker.higgs.codec import Codec
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.device_loss import exit_process
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine, TracedUtterance
from gpu_worker.higgs.load_model import load_language_model
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.prompt import PromptBuilder
from gpu_worker.higgs.scheduler import Scheduler
from narration.audio.files import decode, encode_clip
from narration.contract import SynthesisRequest
from support.higgs_oracle import Conversation

CPU = torch.device("cpu")
MAX_NEW_TOKENS = 110
OPTIONS = EngineOptions(slots=3, slot_length=384, prefix_cache_bytes=1 << 30, voices=64)

_NOISE = np.random.default_rng(11)
ANNA: Waveform = (0.2 * _NOISE.standard_normal(30_000)).astype(np.float32)
BERT: Waveform = (0.2 * _NOISE.standard_normal(24_000)).astype(np.float32)
# Encoded with 16 bits and decoded, as the worker will receive it.
CONTEXT = decode(encode_clip((0.2 * _NOISE.standard_normal(20_000)).astype(np.float32), "wav"))[0]

_ROOM = "Audio is recorded from a quiet room."

CONVERSATIONS = [
    Conversation("The sun rises in the east."),
    Conversation("She sells sea shells.", scene=_ROOM, turns=[("What Anna says.", ANNA)]),
    Conversation("A", scene=_ROOM),
    Conversation("What now? " * 6, scene=_ROOM, turns=[("What Bert says.", BERT)]),
    Conversation("And then?", turns=[("What went before.", CONTEXT)]),
    Conversation("Another chunk of Anna's.", scene=_ROOM, turns=[("What Anna says.", ANNA)]),
    Conversation("And on.", scene=_ROOM, turns=[("What Anna says.", ANNA), ("What went before.", CONTEXT)]),
    Conversation("Hello there.", system="Whisper.", scene="A cave."),
]

SAMPLED: dict[str, Any] = {
    "temperature": 0.9,
    "top_k": 80,
    "top_p": 0.95,
    "ras_win_len": 7,
    "max_new_tokens": 60,
}
"""Fields of a request that samples; `request_of` alone gives a greedy one."""


@dataclass(frozen=True)
class LoadedEngine:
    """An engine and the parts it was made of."""

    engine: HiggsEngine
    scheduler: Scheduler
    runner: ModelRunner
    codec: Codec


def load_runner(
    model_folder: Path, *, slots: int, slot_length: int, prefix_bytes: int = 0, device: torch.device = CPU
) -> ModelRunner:
    """A model runner over the checkpoint in `model_folder`."""
    decoder = Decoder(load_language_model(model_folder, device), device=device, max_positions=slot_length)
    return ModelRunner(decoder, slots=slots, slot_length=slot_length, prefix_bytes=prefix_bytes)


def load_engine(
    model_folder: Path,
    codec_folder: Path,
    options: EngineOptions = OPTIONS,
    *,
    on_fatal: Callable[[BaseException], None] = exit_process,
) -> LoadedEngine:
    """An engine on the CPU, made as `HiggsEngine.load` makes it."""
    slots, slot_length = options.slots, options.slot_length
    assert slots is not None
    assert slot_length is not None
    model = load_language_model(model_folder, CPU)
    prompts = PromptBuilder.load(
        model_folder,
        audio_token_id=model.config.audio_token_id,
        audio_delay_token_id=model.config.audio_delay_token_id,
    )
    codec = Codec.load(codec_folder, CPU)
    runner = ModelRunner(
        Decoder(model, device=CPU, max_positions=slot_length),
        slots=slots,
        slot_length=slot_length,
        prefix_bytes=options.prefix_cache_bytes,
    )
    scheduler = Scheduler(slots)
    engine = HiggsEngine(scheduler, runner, prompts, codec, model="m", options=options, on_fatal=on_fatal)
    return LoadedEngine(engine, scheduler, runner, codec)


@asynccontextmanager
async def open_engine(
    model_folder: Path,
    codec_folder: Path,
    options: EngineOptions = OPTIONS,
    *,
    on_fatal: Callable[[BaseException], None] = exit_process,
) -> AsyncIterator[LoadedEngine]:
    """`load_engine`, drained at the end of the context."""
    loaded = load_engine(model_folder, codec_folder, options, on_fatal=on_fatal)
    try:
        yield loaded
    finally:
        await loaded.engine.drain()


def request_of(conversation: Conversation, **changes: Any) -> tuple[SynthesisRequest, SampleLoader | None]:
    """The request for a conversation and the loader of its voice sample: greedy unless `changes` say else."""
    fields: dict[str, Any] = {
        "prompt": conversation.text,
        "system_prompt": conversation.system,
        "scene": conversation.scene,
        "max_new_tokens": MAX_NEW_TOKENS,
        "temperature": 0.0,
        "ras_win_len": 0,
    }
    turns = list(conversation.turns)
    sample = None
    if turns and turns[0][1] is not CONTEXT:
        text, waveform = turns.pop(0)
        fields |= {"audio_transcript": text, "audio_sha256": f"{len(waveform):064x}"}
        sample = sample_loader(text, waveform)
    if turns:
        text, waveform = turns[0]
        encoded = base64.b64encode(encode_clip(waveform, "wav")).decode()
        fields |= {"previous_text": text, "previous_audio_base64": encoded}
    return SynthesisRequest(**fields | changes), sample


def sample_loader(transcript: str, waveform: Waveform) -> SampleLoader:
    """A loader that gives `waveform`, under a digest made of its length."""

    async def load() -> VoiceSample:
        return VoiceSample(waveform, f"{len(waveform):064x}", transcript)

    return load


async def failing_loader() -> VoiceSample:
    """A loader for a voice that the engine must already hold."""
    raise AssertionError("the sample was loaded")


async def synthesize(engine: HiggsEngine, conversation: Conversation, **changes: Any) -> TracedUtterance:
    """Synthesize one conversation."""
    return await engine.synthesize_traced(*request_of(conversation, **changes))


async def synthesize_all(
    engine: HiggsEngine, conversations: Sequence[Conversation], **changes: Any
) -> list[TracedUtterance]:
    """Synthesize all conversations at once."""
    return await asyncio.gather(*(synthesize(engine, one, **changes) for one in conversations))


def assert_same_codes(first: Sequence[TracedUtterance], second: Sequence[TracedUtterance]) -> None:
    """Fail unless the utterances have the same codes, pair by pair."""
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
