"""On a CUDA device only: the flash kernels, the captured graph, the engine with launches ahead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from support.engines import load_runner
from support.tiny_codec import write_tiny_codec
from support.tiny_higgs import SMALL_FIRST_ID, write_tiny_higgs

from gpu_worker.higgs.attention import CacheLengths, attend_decode, attend_prefill
from gpu_worker.higgs.attention_choice import (
    MAX_ERROR,
    AttentionShape,
    attention_kernels,
    choose_attention,
    trial_error,
)
from gpu_worker.higgs.codec import Codec
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine, TracedUtterance
from gpu_worker.higgs.prompt import Prompt, PromptPart
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
    """One token in caches of several lengths, and a prompt after a prefix, within rounding."""
    query, cache = random(4, 24, 128), random(4, 96, 2, 8, 128)
    lengths = torch.tensor([1, 17, 64, 96], dtype=torch.int32)
    plain = attend_decode(query.float(), cache.float(), CacheLengths.of(lengths, 96))
    flash = attend_decode(query.cuda(), cache.cuda(), CacheLengths.of(lengths.cuda(), 96))
    torch.testing.assert_close(flash.cpu().float(), plain, atol=2e-2, rtol=2e-2)

    query, cache = random(20, 24, 128), random(96, 2, 8, 128)
    plain = attend_prefill(query.float(), cache.float())
    flash = attend_prefill(query.cuda(), cache.cuda())
    torch.testing.assert_close(flash.cpu().float(), plain, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("slots", [1, 8, 32, 64])
def test_every_attention_kernel_passes_its_trial(slots: int) -> None:
    """With the published heads: the one that is chosen, and those that it was chosen before."""
    shape = AttentionShape(slots, heads=24, kv_heads=8, head_dim=128, dtype=torch.bfloat16)
    device = torch.device("cuda")
    errors = {one.name: trial_error(one.attend, shape, device) for one in attention_kernels(shape, device)}
    assert max(errors.values()) < MAX_ERROR
    assert choose_attention(shape, device).name == next(iter(errors)) == "triton"


def test_the_captured_step_gives_the_codes_of_the_step(tmp_path: Path) -> None:
    """Replayed from the graph, every slot has the codes of the step launched operation by operation."""
    device = torch.device("cuda")
    write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID)
    streams = []
    for captured in (False, True):
        runner = load_runner(tmp_path, slots=3, slot_length=128, prefix_bytes=1 << 20, device=device)
        if captured:
            runner.capture()
        prompts = [Prompt((PromptPart(np.arange(9)),), (PromptPart(np.arange(n)),)) for n in (3, 10)]
        sequences = [Sequence(prompt, GREEDY, 60) for prompt in prompts]
        for slot, sequence in enumerate(sequences):
            sequence.slot = slot
            runner.admit(sequence)
        runner.run(sequences, 60)
        streams.append([runner.stream(sequence).get() for sequence in sequences])
    np.testing.assert_array_equal(streams[0], streams[1])


def test_decode_steps_come_before_the_codec(tmp_path: Path) -> None:
    """The stream of the steps has a higher priority (a lower number) than the codec's."""
    write_tiny_higgs(tmp_path / "model", first_id=SMALL_FIRST_ID)
    runner = load_runner(tmp_path / "model", slots=1, slot_length=64, device=torch.device("cuda"))
    codec = Codec.load(write_tiny_codec(tmp_path / "codec"), "cuda")
    assert runner._stream is not None
    assert codec._cuda_stream is not None
    assert runner._stream.priority < codec._cuda_stream.priority


async def test_a_seed_repeats_its_codes_on_the_device(tmp_path: Path) -> None:
    """More requests than slots: one of them again, alone, has the same codes."""
    write_tiny_higgs(tmp_path / "model", first_id=SMALL_FIRST_ID)
    write_tiny_codec(tmp_path / "codec")
    engine = HiggsEngine.load(
        tmp_path / "model",
        tmp_path / "codec",
        model="m",
        device="cuda",
        options=EngineOptions(slots=3, slot_length=256, prefix_cache_bytes=1 << 20, voices=2),
    )

    async def synthesize(seed: int) -> TracedUtterance:
        return await engine.synthesize_traced(
            SynthesisRequest(prompt=f"Hello {seed}.", seed=seed, max_new_tokens=100), None
        )

    together = await asyncio.gather(*map(synthesize, range(8)))
    alone = await synthesize(5)
    await engine.drain()
    np.testing.assert_array_equal(alone.codes, together[5].codes)
