"""What only a CUDA device can show: the flash kernels' agreement, the captured graph, the look ahead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_codec import write_tiny_codec
from support.tiny_higgs import SMALL_FIRST_ID, write_tiny_higgs

from gpu_worker.higgs.attention import Spans, attend_many, attend_one
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine, Spoken
from gpu_worker.higgs.load_model import load_language_model
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.prompt import Prompt, Segment
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence
from narration.contract import SynthesisRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GREEDY = Sampling(temperature=0, top_k=1, top_p=1, seed=0, ras_window=0, ras_repeats=0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).bfloat16()


def test_the_flash_kernels_agree_with_plain_attention() -> None:
    """One token against caches of several lengths, and a prompt behind a prefix, within rounding."""
    query, cache = random(4, 24, 128), random(4, 96, 2, 8, 128)
    lengths = torch.tensor([1, 17, 64, 96], dtype=torch.int32)
    plain = attend_one(query.float(), cache.float(), Spans.of(lengths, 96))
    flash = attend_one(query.cuda(), cache.cuda(), Spans.of(lengths.cuda(), 96))
    torch.testing.assert_close(flash.cpu().float(), plain, atol=2e-2, rtol=2e-2)

    query, cache = random(20, 24, 128), random(96, 2, 8, 128)
    plain = attend_many(query.float(), cache.float())
    flash = attend_many(query.cuda(), cache.cuda())
    torch.testing.assert_close(flash.cpu().float(), plain, atol=2e-2, rtol=2e-2)


def test_the_captured_step_is_the_step(tmp_path: Path) -> None:
    """Replayed from the graph, the rows say what they say launched one operation at a time."""
    device = torch.device("cuda")
    write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID)
    decoder = Decoder(load_language_model(tmp_path, device), device=device, max_positions=128)
    streams = []
    for captured in (False, True):
        runner = ModelRunner(decoder, slots=3, slot_length=128, prefix_bytes=1 << 20)
        if captured:
            runner.capture()
        prompts = [Prompt((Segment(np.arange(9)),), (Segment(np.arange(n)),)) for n in (3, 10)]
        sequences = [Sequence(prompt, GREEDY, 60) for prompt in prompts]
        for slot, sequence in enumerate(sequences):
            sequence.slot = slot
            runner.admit(sequence)
        runner.run(sequences, 60)
        streams.append([runner.stream(sequence).get() for sequence in sequences])
    np.testing.assert_array_equal(streams[0], streams[1])


async def test_the_engine_speaks_on_the_device(tmp_path: Path) -> None:
    """More requests than slots, seeded: the same codes again, whatever the company."""
    write_tiny_higgs(tmp_path / "model", first_id=SMALL_FIRST_ID)
    write_tiny_codec(tmp_path / "codec")
    engine = HiggsEngine.load(
        tmp_path / "model",
        tmp_path / "codec",
        model="m",
        device="cuda",
        options=EngineOptions(slots=3, slot_length=256, prefix_cache_bytes=1 << 20, voices=2),
    )

    async def say(seed: int) -> Spoken:
        return await engine.say(
            SynthesisRequest(prompt=f"Hello {seed}.", seed=seed, max_new_tokens=100), None
        )

    together = await asyncio.gather(*map(say, range(8)))
    alone = await say(5)
    await engine.drain()
    np.testing.assert_array_equal(alone.codes, together[5].codes)
