"""Attention choice: which kernel the decode steps use, chosen by a trial when the engine loads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal

import torch

from gpu_worker.higgs.attention import CacheLengths, attend_decode
from gpu_worker.higgs.failure_text import one_line

AttentionName = Literal["triton", "flash-split", "flash", "plain"]
Attend = Callable[[torch.Tensor, torch.Tensor, CacheLengths], torch.Tensor]

MAX_ERROR = 1e-2  # relative, of bfloat16 against float32; a right kernel has some 3e-3
_TRIAL_TOKENS = 256
# The flash kernel splits a slot's tokens only while its tiles fill less than this share of two on
# each multiprocessor; unsplit its tiles have 128 rows, of which a slot's query heads fill three.
_FILLED = 0.8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class DecodeAttention:
    """A kernel by name; a request repeats its codes only with the same one."""

    name: AttentionName
    attend: Attend


PLAIN = DecodeAttention("plain", attend_decode)
"""PyTorch's own attention with a mask, on the CPU."""

FLASH = DecodeAttention("flash", attend_decode)
"""PyTorch's flash kernel, with as many splits of a slot's tokens as it chooses."""


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The sizes of a decode step's attention."""

    slots: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype


def choose_attention(
    shape: AttentionShape, device: torch.device, wanted: AttentionName | None = None
) -> DecodeAttention:
    """The first of Triton's kernel, the flash kernel in two splits and as it is, that passes a trial.

    `wanted` alone is tried if it is given; the flash kernel as it is comes last in any case. On the
    CPU it is always `PLAIN`. The log says why a kernel is not used.
    """
    if device.type != "cuda":
        return PLAIN
    for kernel in attention_kernels(shape, device):
        if wanted not in (None, kernel.name):
            continue
        try:
            error = trial_error(kernel.attend, shape, device)
        except torch.AcceleratorError:
            raise  # the device itself failed
        except Exception as failure:  # noqa: BLE001 -- compilers raise exceptions of many kinds
            log.warning("decode attention %s is not used: %s", kernel.name, one_line(failure))
        else:
            if error <= MAX_ERROR:
                return kernel
            log.error("decode attention %s is not used: its relative error is %.1e", kernel.name, error)
    return FLASH


def trial_error(attend: Attend, shape: AttentionShape, device: torch.device) -> float:
    """The relative error of `attend` against float32 on the CPU: lengths from 1 token up, random values."""
    random = torch.Generator().manual_seed(0)
    like = {"generator": random, "dtype": torch.float32}
    # As in a decode step, the queries are a part of each slot's row of queries, keys and values.
    rows = torch.randn(shape.slots, shape.heads + 2 * shape.kv_heads, shape.head_dim, **like).to(shape.dtype)
    cache_shape = (shape.slots, _TRIAL_TOKENS, 2, shape.kv_heads, shape.head_dim)
    cache = torch.randn(cache_shape, **like).to(shape.dtype)
    lengths = torch.linspace(1, _TRIAL_TOKENS, shape.slots).to(torch.int32)
    expected = attend_decode(
        rows[:, : shape.heads].float(), cache.float(), CacheLengths.of(lengths, _TRIAL_TOKENS)
    )
    on_device = CacheLengths.of(lengths.to(device), _TRIAL_TOKENS)
    with torch.inference_mode():
        actual = attend(rows.to(device)[:, : shape.heads], cache.to(device), on_device).float().cpu()
    return float((actual - expected).norm() / expected.norm())


def attention_kernels(shape: AttentionShape, device: torch.device) -> Iterator[DecodeAttention]:
    """The kernels that the device may have, the one expected to be fastest first; none has been tried."""
    if device.type != "cuda":
        yield PLAIN
        return
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    if find_spec("triton") is not None:
        from gpu_worker.higgs import triton_attention  # noqa: PLC0415 -- only where Triton is installed

        splits = triton_attention.choose_splits(shape.slots, shape.kv_heads, multiprocessors)
        yield DecodeAttention("triton", partial(triton_attention.attend_decode, splits=splits))
    if _flash_takes_splits() and shape.slots * shape.kv_heads >= _FILLED * 2 * multiprocessors:
        yield DecodeAttention("flash-split", partial(attend_decode, splits=2))
    yield FLASH


def _flash_takes_splits() -> bool:
    """Whether the flash kernel can be told its splits: from PyTorch 2.12 on."""
    arguments = torch.ops.aten._flash_attention_forward.default._schema.arguments  # noqa: SLF001 -- as in attention
    return any(argument.name == "num_splits" for argument in arguments)
