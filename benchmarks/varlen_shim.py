"""Lets the engine run on torch 2.11, whose `varlen_attn` has neither `enable_gqa` nor `seqused_k`.

Import this module before the engine (for pytest: `-p varlen_shim`). It calls the flash kernel that
torch's own function calls, which takes grouped heads and used lengths in 2.11 as in 2.13. On a
torch whose function has both arguments it does nothing.
"""

from __future__ import annotations

import inspect

import torch
from torch.nn.attention import varlen

NEEDED = "seqused_k" not in inspect.signature(varlen.varlen_attn).parameters
"""Whether this torch's `varlen_attn` was replaced."""

_CAUSAL = (-1, 0)


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,  # noqa: ARG001 -- the kernel groups heads by their number
    seqused_k: torch.Tensor | None = None,
) -> torch.Tensor:
    """`torch.nn.attention.varlen.varlen_attn` of torch 2.13, as far as the engine uses it."""
    out: torch.Tensor = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 -- an operator without a public name
        query,
        key,
        value,
        cu_seq_q,
        cu_seq_k,
        max_q,
        max_k,
        0.0,  # no dropout
        window_size == _CAUSAL,
        return_debug_mask=False,
        window_size_left=window_size[0],
        window_size_right=window_size[1],
        seqused_k=seqused_k,
    )[0]
    return out


if NEEDED:
    varlen.varlen_attn = varlen_attn
