"""Snake in Triton: the codec decoder's activation, x + sin(alpha x)^2 / alpha, in one kernel for six."""

# Triton compiles the kernel: its pointers have no Python type, its constants are in upper case.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 1024  # samples of one channel that a program reads


@triton.jit  # type: ignore[untyped-decorator]  # Triton is not installed where types are checked
def _snake(hidden_pointer, alpha_pointer, out_pointer, channels, samples, BLOCK: tl.constexpr):
    """One block of one channel of one clip."""
    row = tl.program_id(0).to(tl.int64)
    sample = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = sample < samples
    alpha = tl.load(alpha_pointer + row % channels)
    hidden = tl.load(hidden_pointer + row * samples + sample, mask=inside, other=0.0)
    sine = tl.sin(alpha * hidden)
    tl.store(out_pointer + row * samples + sample, hidden + sine * sine / (alpha + 1e-9), mask=inside)


def snake(hidden: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The activation of `hidden` [clips, channels, samples] float32, with `alpha` [1, channels, 1]."""
    hidden = hidden.contiguous()
    clips, channels, samples = hidden.shape
    out = torch.empty_like(hidden)
    grid = (clips * channels, triton.cdiv(samples, BLOCK))
    _snake[grid](hidden, alpha, out, channels, samples, BLOCK=BLOCK)
    return out
