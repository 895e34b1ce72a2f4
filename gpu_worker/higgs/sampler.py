"""Sampling: each row draws by its own parameters, with noise that only its seed decides.

Everything is a fixed number of tensor operations on fixed shapes, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOKS
from narration.contract import MAX_RAS_WINDOW

_WORD = 0xFFFFFFFF
_DRAW, _REDRAW = 0, 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request samples; `temperature` 0 is greedy, `ras_window` or `ras_repeats` 0 turns RAS off."""

    temperature: float
    top_k: int
    top_p: float
    seed: int
    ras_window: int
    ras_repeats: int


@dataclass(frozen=True, slots=True, eq=False)
class SamplingSlots:
    """The same for every slot, as tensors `[rows]` that are written in place."""

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    seed: torch.Tensor
    ras_window: torch.Tensor
    ras_repeats: torch.Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> SamplingSlots:
        """Rows that sample greedily."""
        whole = torch.zeros(rows, dtype=torch.int64, device=device)
        real = torch.zeros(rows, dtype=torch.float32, device=device)
        return cls(real, whole, real.clone(), whole.clone(), whole.clone(), whole.clone())

    def write(self, row: int, sampling: Sampling) -> None:
        """Give `row` its parameters, without waiting for the device."""
        self.temperature[row] = sampling.temperature
        self.top_k[row] = sampling.top_k
        self.top_p[row] = sampling.top_p
        self.seed[row] = sampling.seed
        self.ras_window[row] = sampling.ras_window
        self.ras_repeats[row] = sampling.ras_repeats


def sample(
    logits: torch.Tensor, rows: SamplingSlots, step: torch.Tensor, history: torch.Tensor
) -> torch.Tensor:
    """One code per row and codebook, `[rows, 8]`.

    `logits` float32 [rows, 8, codes]; `step` [rows] counts the row's steps; `history`
    [rows, `MAX_RAS_WINDOW`, 8] is a ring in which step s stands at s modulo its length.
    """
    tokens = _draw(logits, rows, _uniform(rows.seed, step, _DRAW))

    # Repetition-aware sampling: a code heard too often in the window is drawn again, from the
    # plain distribution. Begin and end codes are the pattern's, no repetition.
    ring = torch.arange(MAX_RAS_WINDOW, device=logits.device)
    age = (step[:, None] - 1 - ring) % MAX_RAS_WINDOW
    heard = (history == tokens[:, None, :]) & (age < rows.ras_window[:, None])[:, :, None] & (history < BEGIN)
    repeated = (heard.sum(dim=1) >= rows.ras_repeats[:, None]) & (rows.ras_repeats > 0)[:, None]
    redrawn = _invert(logits.softmax(dim=-1), _uniform(rows.seed, step, _REDRAW))
    return torch.where(repeated & (rows.ras_window > 0)[:, None], redrawn, tokens)


def _draw(logits: torch.Tensor, rows: SamplingSlots, noise: torch.Tensor) -> torch.Tensor:
    """Temperature, then top-k, then top-p, as transformers' warpers do in that order; at 0 the likeliest."""
    greedy = rows.temperature == 0
    temperature = torch.where(greedy, 1, rows.temperature)[:, None, None]
    scores, order = (logits / temperature).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scores.shape[-1], device=logits.device)
    scores = scores.masked_fill(rank >= rows.top_k[:, None, None], -torch.inf)
    probabilities = scores.softmax(dim=-1)
    top_p = rows.top_p[:, None, None]
    before = probabilities.cumsum(dim=-1) - probabilities
    nucleus = (before < top_p) | (top_p >= 1) | (rank == 0)
    choice = _invert(probabilities * nucleus, noise).masked_fill(greedy[:, None], 0)
    return order.gather(-1, choice[..., None]).squeeze(-1)


def _invert(weights: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Index drawn with probability proportional to `weights` [..., codes] by `noise` [...] in (0, 1)."""
    cumulative = weights.cumsum(dim=-1)
    target = noise[..., None] * cumulative[..., -1:]
    # Below the target by count, never past the last weight that is not zero (rounding).
    index = (cumulative <= target).sum(dim=-1)
    last = (cumulative < cumulative[..., -1:]).sum(dim=-1)
    return torch.minimum(index, last)


def _uniform(seed: torch.Tensor, step: torch.Tensor, purpose: int) -> torch.Tensor:
    """Noise in (0, 1), `[rows, 8]`: a hash of (seed, step, codebook, purpose) and of nothing else."""
    codebook = torch.arange(CODEBOOKS, device=seed.device)
    word = _mix(_mix(seed & _WORD) ^ ((seed >> 32) & _WORD))
    word = _mix(word ^ step)[:, None]
    word = _mix(_mix(word ^ (codebook * 2 + purpose + 1)))
    return ((word >> 8).to(torch.float32) + 0.5) * 2.0**-24


def _mix(word: torch.Tensor) -> torch.Tensor:
    """Scramble 32-bit words held in int64: two rounds of multiply and xor-shift, a bijection."""
    word = (word + 0x9E3779B9) & _WORD
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) & _WORD
    word = ((word ^ (word >> 15)) * 0x735A2D97) & _WORD
    return word ^ (word >> 15)
