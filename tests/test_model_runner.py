"""Model runner: a step that a CUDA graph can record, and the state that a prefill leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.engines import load_runner
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_worker.higgs import slot_state
from gpu_worker.higgs.delay_pattern import delay
from gpu_worker.higgs.prompt import Prompt, PromptPart
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence
from gpu_worker.higgs.slot_state import SlotState


def test_a_step_never_reads_a_value_on_the_host(model_folder: Path) -> None:
    """It runs on tensors that have shapes and no values, so a CUDA graph can record it."""
    runner = load_runner(model_folder, slots=2, slot_length=64)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        runner.run((), 1)


class HostCopies(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Operations on a device that read a tensor in host memory: on CUDA the host waits for each."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = {one.device.type for one in args if isinstance(one, torch.Tensor)}
        # `tensor[0] = number` makes a tensor of the number, on CUDA by a copy from the host.
        if devices == {"cpu", "meta"} or func is torch.ops.aten.scalar_tensor.default:
            self.operations.append(str(func))
        return func(*args, **kwargs or {})


def test_an_admission_waits_for_the_device_in_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling a slot's state uploads once, from pinned memory, and reads nothing else from the host."""
    uploads: list[int] = []

    def uploaded(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
        uploads.append(array.size)
        return torch.empty(array.shape, dtype=torch.int64, device=device)

    monkeypatch.setattr(slot_state, "upload", uploaded)
    with torch.inference_mode():
        state = SlotState.empty(2, 64, torch.device("meta"))  # stands for any device but the CPU
        with HostCopies() as copies:
            nothing = np.empty((0, 8), dtype=np.int64)
            sampling = Sampling(0.3, 50, 0.95, 1, 7, 2)
            state.admit(1, prompt_length=9, max_steps=20, sampling=sampling, context_codes=nothing)
            state.release(1)
    assert copies.operations == []
    assert len(uploads) == 1


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
