"""Faults in the engine: bad requests, exhausted memory; other requests keep their codes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from support.engines import (
    CONVERSATIONS,
    LoadedEngine,
    assert_same_codes,
    request_of,
    synthesize,
    synthesize_all,
)

from gpu_worker.engine_protocol import VoiceSample
from gpu_worker.higgs.engine import TracedUtterance
from narration.contract import ContractError, ErrorCode


async def test_a_bad_request_fails_no_other(shared: LoadedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable sample, context that is no audio, a failing prefill: each fails its own request only."""

    async def unreachable() -> VoiceSample:
        raise ContractError(ErrorCode.SAMPLE_UNREACHABLE, "gone")

    engine, runner = shared.engine, shared.runner
    good = request_of(CONVERSATIONS[0])
    bad_context = request_of(CONVERSATIONS[4], previous_audio_base64="AAAA")
    alone = await engine.synthesize_traced(*good)
    admit = runner.admit

    def admit_unless_13(sequence: Any) -> Any:
        if sequence.sampling.seed == 13:
            raise ValueError("no such thing")
        return admit(sequence)

    monkeypatch.setattr(runner, "admit", admit_unless_13)
    requests = [
        (request_of(CONVERSATIONS[3], audio_sha256="0" * 64)[0], unreachable),
        bad_context,
        request_of(CONVERSATIONS[2], seed=13),
        good,
    ]
    outcomes = await asyncio.gather(
        *(engine.synthesize_traced(*one) for one in requests), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [ContractError, ContractError, ValueError, TracedUtterance]
    assert isinstance(outcomes[3], TracedUtterance)
    assert_same_codes([alone], [outcomes[3]])


async def test_out_of_memory_in_a_prefill_clears_the_prefixes_first(
    shared: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prefill is repeated without cached prefixes; if that fails too, its request alone is refused."""
    engine, runner = shared.engine, shared.runner
    before = await synthesize(engine, CONVERSATIONS[0])
    admit = runner.admit

    def admit_with_little_memory(sequence: Any) -> Any:
        if len(runner.prefixes) or sequence.sampling.seed == 13:
            raise torch.OutOfMemoryError
        return admit(sequence)

    monkeypatch.setattr(runner, "admit", admit_with_little_memory)
    requests = [request_of(CONVERSATIONS[0]), request_of(CONVERSATIONS[1], seed=13)]
    clip, refusal = await asyncio.gather(
        *(engine.synthesize_traced(*one) for one in requests), return_exceptions=True
    )
    assert isinstance(clip, TracedUtterance)
    assert_same_codes([before], [clip])
    assert isinstance(refusal, ContractError)
    assert (refusal.failure.error_code, refusal.failure.retryable) == (ErrorCode.OUT_OF_MEMORY, True)


async def test_out_of_memory_in_a_step_refuses_the_newest_request(
    shared: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request admitted last is refused; those admitted before keep their codes."""
    engine, runner = shared.engine, shared.runner
    before = await synthesize_all(engine, CONVERSATIONS[:2])
    run = runner.run

    def run_two_at_most(sequences: Any, steps: int) -> Any:
        if len(tuple(sequences)) == 3:
            raise torch.OutOfMemoryError
        return run(sequences, steps)

    monkeypatch.setattr(runner, "run", run_two_at_most)
    requests = [request_of(conversation) for conversation in CONVERSATIONS[:3]]
    *clips, refusal = await asyncio.gather(
        *(engine.synthesize_traced(*one) for one in requests), return_exceptions=True
    )
    assert isinstance(refusal, ContractError)
    assert refusal.failure.error_code == ErrorCode.OUT_OF_MEMORY
    assert_same_codes(before, [clip for clip in clips if isinstance(clip, TracedUtterance)])
