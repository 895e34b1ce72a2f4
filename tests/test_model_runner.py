"""Model runner: a step that a CUDA graph can record, and the state that a prefill leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from support.engines import load_runner
from torch._subclasses.fake_tensor import FakeTensorMode

from gpu_worker.higgs.delay_pattern import delay
from gpu_worker.higgs.prompt import Prompt, PromptPart
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence


def test_a_step_never_reads_a_value_on_the_host(model_folder: Path) -> None:
    """It runs on tensors that have shapes and no values, so a CUDA graph can record it."""
    runner = load_runner(model_folder, slots=2, slot_length=64)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        runner.run((), 1)


def test_repetition_aware_sampling_counts_the_end_of_the_voice_sample(model_folder: Path) -> None:
    """After a prefill the history holds the prompt's last audio codes, as transformers counts them."""
    runner = load_runner(model_folder, slots=2, slot_length=64)
    stream = delay(np.arange(80).reshape(8, 10).astype(np.int16))
    prefix = (PromptPart(np.arange(3)), PromptPart(np.zeros(19, dtype=np.int64), stream))
    prompt = Prompt(prefix, (PromptPart(np.arange(4)),))
    sequence = Sequence(prompt, Sampling(0, 1, 1, 0, 7, 2), 20, slot=1)
    with torch.inference_mode():
        runner.state.history[1] = 5  # left by an earlier request
    runner.admit(sequence)
    history = runner.state.history[1]
    np.testing.assert_array_equal(history[-19:], stream)  # steps -19 to -1 of the ring
    assert (history[:-19] == 1024).all()
    assert (runner.state.history[0] == 1024).all()
