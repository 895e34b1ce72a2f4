"""The choice of the decode attention's kernel: by order, by trial, named in the engine's facts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpu_worker.higgs import attention_choice
from gpu_worker.higgs.attention_choice import (
    FLASH,
    PLAIN,
    Attend,
    AttentionName,
    AttentionShape,
    DecodeAttention,
    attention_kernels,
    choose_attention,
    trial_error,
)

SHAPE = AttentionShape(slots=3, heads=6, kv_heads=2, head_dim=16, dtype=torch.bfloat16)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def _fails(*_: Any) -> torch.Tensor:
    raise RuntimeError("no such kernel")


def _offer(monkeypatch: pytest.MonkeyPatch, **kernels: Attend) -> None:
    """Offer these kernels on a CUDA device, which the CPU stands for in their trials."""

    def offered(_shape: AttentionShape, _device: torch.device) -> Iterator[DecodeAttention]:
        for name, attend in kernels.items():
            yield DecodeAttention(name, attend)  # type: ignore[arg-type]  # one of the names

    def trial_on_the_cpu(attend: Attend, shape: AttentionShape, _device: torch.device) -> float:
        return trial_error(attend, shape, CPU)

    monkeypatch.setattr(attention_choice, "attention_kernels", offered)
    monkeypatch.setattr(attention_choice, "trial_error", trial_on_the_cpu)


def _doubles(*arguments: Any) -> torch.Tensor:
    return 2 * PLAIN.attend(*arguments)


@pytest.mark.parametrize(
    ("first", "reason"), [(_fails, "no such kernel"), (_doubles, "relative error is 1.0")]
)
def test_a_kernel_that_fails_its_trial_is_passed_over(
    first: Attend, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception or a wrong result: the next kernel is used, and the log names kernel and reason."""
    _offer(monkeypatch, triton=first, flash=PLAIN.attend)
    with caplog.at_level(logging.WARNING):
        assert choose_attention(SHAPE, CUDA).name == "flash"
    assert "decode attention triton is not used: " in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize(("wanted", "chosen"), [(None, "triton"), ("flash", "flash")])
def test_the_first_kernel_that_passes_is_used_unless_one_is_wanted(
    wanted: AttentionName | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WORKER_ATTENTION names another one."""
    _offer(monkeypatch, triton=PLAIN.attend, flash=PLAIN.attend)
    assert choose_attention(SHAPE, CUDA, wanted).name == chosen


def test_on_the_cpu_there_is_no_choice() -> None:
    """PyTorch's own attention, also where another kernel is wanted."""
    assert choose_attention(SHAPE, CPU, "triton") is PLAIN
    assert list(attention_kernels(SHAPE, CPU)) == [PLAIN]


@pytest.mark.parametrize(
    ("slots", "multiprocessors", "names"),
    [
        (26, 132, ["flash"]),  # an H100, with 8 key heads: the kernel splits by itself
        (27, 132, ["flash-split", "flash"]),
        (32, 128, ["flash-split", "flash"]),  # an RTX 4090
        (1, 58, ["flash"]),  # an L4
    ],
)
def test_the_flash_kernel_is_split_where_it_would_not_split_itself(
    slots: int, multiprocessors: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsplit it pads a slot's query to 128 rows; splitting is needed with many slots only."""
    card = SimpleNamespace(multi_processor_count=multiprocessors)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(attention_choice, "find_spec", lambda _: None)  # as without Triton
    shape = AttentionShape(slots, heads=24, kv_heads=8, head_dim=128, dtype=torch.bfloat16)
    assert [kernel.name for kernel in attention_kernels(shape, CUDA)] == names
    monkeypatch.setattr(attention_choice, "_flash_takes_splits", lambda: False)  # as on torch 2.11
    assert list(attention_kernels(shape, CUDA)) == [FLASH]
