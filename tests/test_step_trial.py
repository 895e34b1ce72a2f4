"""The compiled sampler: the plain sampler's codes, refused if it draws others, not needed to run."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.engines import (
    CONVERSATIONS,
    OPTIONS,
    SAMPLED,
    LoadedEngine,
    assert_same_codes,
    load_runner,
    open_engine,
    synthesize_all,
)
from support.hub import run_python

from gpu_worker.higgs import model_runner
from gpu_worker.higgs.slot_state import SlotState
from gpu_worker.higgs.step_trial import Advance, Trial, compile_advance, try_step

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler warns of itself

COMPILED = replace(OPTIONS, compile_sampler=True)


@pytest.fixture
def _quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's first half, which decides what is computed, without the minute that C++ takes."""
    monkeypatch.setattr(model_runner, "compile_advance", lambda: compile_advance("aot_eager"))


@pytest.mark.usefixtures("_quick_compiler")
async def test_the_compiled_sampler_gives_the_plain_samplers_codes(
    shared: LoadedEngine, model_folder: Path, codec_folder: Path
) -> None:
    """Greedy and sampled requests through slots that fill and empty have the same codes with and without."""
    sampled = {**SAMPLED, "seed": 6}  # with which no clip is empty
    async with open_engine(model_folder, codec_folder, COMPILED) as loaded:
        assert loaded.engine.configuration["sampler"] == "compiled"
        assert shared.engine.configuration["sampler"] == "plain"
        for changes in ({}, sampled):
            compiled = await synthesize_all(loaded.engine, CONVERSATIONS, **changes)
            assert_same_codes(compiled, await synthesize_all(shared.engine, CONVERSATIONS, **changes))


def test_inductor_compiles_the_sampler_to_a_few_kernels(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler used on CUDA makes at most 25 kernels of it, which draw the plain sampler's codes."""
    from torch._inductor import metrics

    monkeypatch.setenv("TORCHINDUCTOR_DEBUG_COMPILE", "1")  # the C++ compiler is quicker without optimization
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")

    metrics.reset()
    runner = load_runner(model_folder, slots=2, slot_length=64)
    runner.prepare(compile_sampler=True)
    assert runner.configuration["sampler"] == "compiled"
    assert 0 < metrics.generated_kernel_count <= 25


def _draws_code_5(state: SlotState, logits: torch.Tensor, active: torch.Tensor) -> None:
    state.advance(logits, active)
    state.stream[:, 3:9] = 5


def _fails(*_: Any) -> None:
    raise RuntimeError("no such kernel\nfor this card")


@pytest.mark.parametrize(
    ("advance", "reason"), [(_draws_code_5, "draws other codes"), (_fails, "no such kernel for this card")]
)
def test_a_compiled_sampler_that_is_wrong_is_not_used(
    advance: Advance,
    reason: str,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Other codes, or an exception of the compiler: the plain sampler runs, and the log says why."""
    monkeypatch.setattr(model_runner, "compile_advance", lambda: advance)
    runner = load_runner(model_folder, slots=2, slot_length=64)
    with caplog.at_level(logging.WARNING):
        runner.prepare(compile_sampler=True)
    assert runner.configuration["sampler"] == "plain"
    assert reason in caplog.text
    assert "uncompiled" in caplog.text


def test_a_worker_without_a_c_compiler_runs_uncompiled(model_folder: Path) -> None:
    """The engine starts all the same, and the log names the compiler."""
    code = """
import sys
from pathlib import Path
from support.engines import load_runner
runner = load_runner(Path(sys.argv[1]), slots=2, slot_length=64)
runner.prepare(compile_sampler=True)
print(runner.configuration["sampler"])
"""
    root = Path(__file__).parents[1]
    environment = {"PATH": "", "CXX": "/nowhere/c++", "OMP_NUM_THREADS": 1}
    done = run_python("-c", code, model_folder, PYTHONPATH=f"{root}:{root}/tests", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "plain\n"
    assert "the sampler runs uncompiled" in done.stderr
    assert "/nowhere/c++" in done.stderr


def test_a_trial_allows_a_rare_rounding_in_sampled_slots_only(model_folder: Path) -> None:
    """One sampled stream of eight may differ; one greedy stream may not, nor two sampled ones."""
    runner = load_runner(model_folder, slots=8, slot_length=64)
    with torch.inference_mode():
        trial = try_step(runner.state, runner._step)
        assert trial.agrees(try_step(runner.state, runner._step))
    other = [stream + 1 for stream in trial.sampled]
    assert trial.agrees(Trial(trial.greedy, [*other[:1], *trial.sampled[1:]]))
    assert not trial.agrees(Trial(trial.greedy, [*other[:2], *trial.sampled[2:]]))
    assert not trial.agrees(Trial([trial.greedy[0] + 1, *trial.greedy[1:]], trial.sampled))
