"""Sampler: logits to codes, each slot by its own parameters and with noise from its own seed.

Every call is the same sequence of tensor operations on the same shapes, so that a CUDA graph can
record it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOKS
from narration.contract import MAX_RAS_WINDOW

FIRST_DRAW, REDRAW = 0, 1
"""Purposes of noise: a step's first draw, and the second draw of repetition-aware sampling."""

_WORD = 0xFFFFFFFF  # the 32 bits that a hashed word keeps
_BELOW_ONE = 1 - 2.0**-24  # the largest float32 below 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """A request's sampling. `temperature` 0 is greedy; `ras_window` or `ras_repeats` 0 turns RAS off."""

    temperature: float
    top_k: int
    top_p: float
    seed: int
    ras_window: int
    ras_repeats: int

    @property
    def integers(self) -> tuple[int, int, int, int]:
        """The integers, in the order in which `SlotSampling.write` takes them."""
        return self.top_k, self.seed, self.ras_window, self.ras_repeats

    @property
    def fractions(self) -> tuple[float, float]:
        """The other numbers, likewise."""
        return self.temperature, self.top_p


@dataclass(frozen=True, slots=True, eq=False)
class SlotSampling:
    """The sampling of all slots, as tensors `[slots]` updated in place."""

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    seed: torch.Tensor
    ras_window: torch.Tensor
    ras_repeats: torch.Tensor

    @classmethod
    def empty(cls, slots: int, device: torch.device) -> SlotSampling:
        """Greedy sampling in every slot."""
        integers = torch.zeros(slots, dtype=torch.int64, device=device)
        floats = torch.zeros(slots, dtype=torch.float32, device=device)
        return cls(
            temperature=floats,
            top_k=integers,
            top_p=floats.clone(),
            seed=integers.clone(),
            ras_window=integers.clone(),
            ras_repeats=integers.clone(),
        )

    def write(self, slot: int, integers: torch.Tensor, fractions: torch.Tensor) -> None:
        """Set the sampling of `slot` from a `Sampling`'s numbers on the device."""
        for field, number in zip(
            (self.top_k, self.seed, self.ras_window, self.ras_repeats), integers, strict=True
        ):
            field[slot].copy_(number)
        for field, number in zip((self.temperature, self.top_p), fractions, strict=True):
            field[slot].copy_(number)


def sample(
    logits: torch.Tensor, slots: SlotSampling, step: torch.Tensor, history: torch.Tensor
) -> torch.Tensor:
    """One code for each slot and codebook, `[slots, 8]`.

    `logits` float32 [slots, 8, codes]; `step` [slots] is each slot's step; `history`
    [slots, `MAX_RAS_WINDOW`, 8] is a ring in which the codes of step s are at s modulo its length.
    """
    codes = _draw(logits, slots, uniform_noise(slots.seed, step, FIRST_DRAW))

    # Repetition-aware sampling: a code that is in the window `ras_repeats` times is drawn again, from
    # the unmodified distribution. Begin and end codes repeat by the delay pattern and do not count.
    ring = torch.arange(MAX_RAS_WINDOW, device=logits.device)
    age = (step[:, None] - 1 - ring) % MAX_RAS_WINDOW
    in_window = (age < slots.ras_window[:, None])[:, :, None]
    same = (history == codes[:, None, :]) & in_window & (history < BEGIN)
    repeated = (same.sum(dim=1) >= slots.ras_repeats[:, None]) & (slots.ras_repeats > 0)[:, None]
    redrawn = _inverse_cdf(logits.softmax(dim=-1), uniform_noise(slots.seed, step, REDRAW))
    return torch.where(repeated & (slots.ras_window > 0)[:, None], redrawn, codes)


def uniform_noise(seed: torch.Tensor, step: torch.Tensor, purpose: int) -> torch.Tensor:
    """Noise in (0, 1), `[slots, 8]`: a hash of `seed` [slots], `step` [slots], codebook and `purpose`."""
    codebook = torch.arange(CODEBOOKS, device=seed.device)
    word = _hash(_hash(seed & _WORD) ^ ((seed >> 32) & _WORD))
    word = _hash(word ^ step)[:, None]
    word = _hash(_hash(word ^ (codebook * 2 + purpose + 1)))
    # The largest word and a half would round to 1, which lies past every code of a distribution.
    return (((word >> 8).to(torch.float32) + 0.5) * 2.0**-24).clamp(max=_BELOW_ONE)


def _draw(logits: torch.Tensor, slots: SlotSampling, noise: torch.Tensor) -> torch.Tensor:
    """Draw codes by temperature, top-k and top-p, in the order of transformers' warpers; 0 is greedy."""
    greedy = slots.temperature == 0
    temperature = torch.where(greedy, 1, slots.temperature)[:, None, None]
    scores, order = (logits / temperature).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scores.shape[-1], device=logits.device)
    scores = scores.masked_fill(rank >= slots.top_k[:, None, None], -torch.inf)
    probabilities = scores.softmax(dim=-1)
    top_p = slots.top_p[:, None, None]
    before = probabilities.cumsum(dim=-1) - probabilities
    nucleus = (before < top_p) | (top_p >= 1) | (rank == 0)
    choice = _inverse_cdf(probabilities * nucleus, noise).masked_fill(greedy[:, None], 0)
    return order.gather(-1, choice[..., None]).squeeze(-1)


def _inverse_cdf(weights: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Index drawn with probability proportional to `weights` [..., codes] by `noise` [...] in (0, 1)."""
    cumulative = weights.cumsum(dim=-1)
    target = noise[..., None] * cumulative[..., -1:]
    index = (cumulative <= target).sum(dim=-1)
    # Rounding can put the target past the last weight that is not zero.
    last = (cumulative < cumulative[..., -1:]).sum(dim=-1)
    return torch.minimum(index, last)


def _hash(word: torch.Tensor) -> torch.Tensor:
    """Hash 32-bit words held in int64, a bijection: two rounds of multiplication and xor-shift."""
    word = (word + 0x9E3779B9) & _WORD
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) & _WORD
    word = ((word ^ (word >> 15)) * 0x735A2D97) & _WORD
    return word ^ (word >> 15)
