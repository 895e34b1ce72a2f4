"""Seeds: the same request and seed give the same codes, whatever else the engine does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.engines import (
    CONVERSATIONS,
    SAMPLED,
    LoadedEngine,
    assert_same_codes,
    load_runner,
    open_engine,
    request_of,
    synthesize,
    synthesize_all,
)

from gpu_worker.higgs.engine import TracedUtterance
from gpu_worker.higgs.prompt import Prompt, PromptPart
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence


async def test_the_same_request_and_seed_give_the_same_codes(shared: LoadedEngine) -> None:
    """Alone, beside other requests, in another slot, with the voice's prefix cached or not."""
    request = request_of(CONVERSATIONS[1], **SAMPLED, seed=77)
    engine, runner = shared.engine, shared.runner
    runner.clear_prefixes()
    uncached = await engine.synthesize_traced(*request)
    others = [
        synthesize(engine, conversation, **SAMPLED | {"seed": seed, "max_new_tokens": 30 + seed})
        for seed, conversation in enumerate(CONVERSATIONS)
    ]
    all_requests = [*others[:4], engine.synthesize_traced(*request), *others[4:]]
    cached_beside_others = (await asyncio.gather(*all_requests, return_exceptions=True))[4]
    assert isinstance(cached_beside_others, TracedUtterance)
    assert len(runner.prefixes) >= 4
    runner.clear_prefixes()
    uncached_again = await engine.synthesize_traced(*request)
    assert_same_codes([uncached, uncached], [cached_beside_others, uncached_again])
    assert uncached.utterance.seed == 77


async def test_a_request_without_a_seed_draws_one_and_reports_it(
    endless_model_folder: Path, codec_folder: Path
) -> None:
    """Two clips without a seed differ; the reported seed repeats the first."""
    async with open_engine(endless_model_folder, codec_folder) as loaded:
        one, other = await synthesize_all(loaded.engine, [CONVERSATIONS[0]] * 2, **SAMPLED)
        again = await synthesize(loaded.engine, CONVERSATIONS[0], **SAMPLED, seed=one.utterance.seed)
    assert one.utterance.seed != other.utterance.seed
    assert not np.array_equal(one.codes, other.codes)
    assert_same_codes([one], [again])


def test_codes_depend_on_no_slot_and_on_no_other_request(model_folder: Path) -> None:
    """Alone in the first slot, or in the last after another request and beside others: the same codes."""
    runner = load_runner(model_folder, slots=3, slot_length=128)

    def stream(slot: int, seed: int, *others: Sequence) -> NDArray[Any]:
        sampling = Sampling(temperature=0.9, top_k=80, top_p=0.95, seed=seed, ras_window=7, ras_repeats=2)
        prompt = Prompt((PromptPart(np.arange(9)),), (PromptPart(np.arange(5)),))
        sequence = Sequence(prompt, sampling, 60, slot=slot)
        for one in (*others, sequence):
            runner.admit(one)
        runner.run([sequence], 60)
        return runner.stream(sequence).get()

    alone = stream(0, 2**40 + 7)
    assert not np.array_equal(stream(2, 7), alone), "a seed's upper 32 bits count too"
    hot = Sampling(temperature=2, top_k=1026, top_p=1, seed=1, ras_window=0, ras_repeats=0)
    prompt = Prompt((PromptPart(np.arange(1)),), (PromptPart(np.arange(39)),))
    others = [Sequence(prompt, hot, 88, slot=slot) for slot in (0, 1)]
    np.testing.assert_array_equal(stream(2, 2**40 + 7, *others), alone)
