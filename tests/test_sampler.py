"""Sampler: transformers' distribution, noise from the seed alone, each slot independent of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from gpu_worker.higgs import sampler
from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOK_SIZE, END
from gpu_worker.higgs.sampler import FIRST_DRAW, REDRAW, Sampling, SlotSampling, sample, uniform_noise
from narration.contract import MAX_RAS_WINDOW

PLAIN = Sampling(temperature=1.0, top_k=1026, top_p=1.0, seed=0, ras_window=0, ras_repeats=0)
GREEDY = replace(PLAIN, temperature=0.0)


def slots_of(*samplings: Sampling) -> SlotSampling:
    slots = SlotSampling.empty(len(samplings), torch.device("cpu"))
    for slot, sampling in enumerate(samplings):
        fractions = torch.tensor(sampling.fractions, dtype=torch.float64)
        slots.write(slot, torch.tensor(sampling.integers), fractions)
    return slots


def history_of(slots: int, *codes: int) -> torch.Tensor:
    """A ring in which step s has the code `codes[s]` in every codebook."""
    ring = torch.full((slots, MAX_RAS_WINDOW, 8), BEGIN)
    for step, code in enumerate(codes):
        ring[:, step % MAX_RAS_WINDOW] = code
    return ring


def draw(
    logits: torch.Tensor, *samplings: Sampling, step: int = 9, history: torch.Tensor | None = None
) -> torch.Tensor:
    slots = len(samplings)
    ring = history_of(slots) if history is None else history
    return sample(logits, slots_of(*samplings), torch.full((slots,), step), ring)


def random_logits(slots: int, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(slots, 8, CODEBOOK_SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (0.3, 50, 0.95),
        (1.0, 1026, 1.0),
        (1.0, 5, 1.0),
        (0.7, 1026, 0.5),
        (1.5, 1000, 0.9),
        (2.0, 1, 1.0),
        (1.0, 20, 0.01),
    ],
)
def test_the_distribution_is_that_of_transformers_warpers(
    temperature: float, top_k: int, top_p: float
) -> None:
    """Over many seeds codes are as frequent as their probability, and those of probability 0 never drawn."""
    seeds = 2_000
    logits = random_logits(1)
    scores = logits[0]
    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        scores = warper(None, scores)
    expected = scores.softmax(-1)  # [8, codes]

    sampling = replace(PLAIN, temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = draw(logits.expand(seeds, -1, -1), *(replace(sampling, seed=seed) for seed in range(seeds)))
    for codebook in range(8):
        counts = torch.bincount(drawn[:, codebook], minlength=CODEBOOK_SIZE)
        p = expected[codebook]
        assert int(counts[p == 0].sum()) == 0
        # Chi-squared over the codes that are expected five times or more; all others count as one code.
        counted = p * seeds >= 5
        expected_counts = torch.cat([p[counted], p[~counted].sum()[None]]) * seeds
        drawn_counts = torch.cat([counts[counted], counts[~counted].sum()[None]])
        square = float(((drawn_counts - expected_counts) ** 2 / expected_counts.clamp_min(1)).sum())
        freedom = int(counted.sum())
        assert square < freedom + 4 * (2 * freedom) ** 0.5 + 6, (codebook, square, freedom)


def test_noise_is_uniform_and_independent() -> None:
    """Mean and variance are those of (0, 1); seeds, steps, codebooks and purposes do not correlate."""
    seeds = torch.arange(3_000)
    step = torch.full_like(seeds, 17)
    noise = uniform_noise(seeds, step, FIRST_DRAW)
    assert noise.min() > 0
    assert noise.max() < 1
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.003)
    columns = [
        noise,
        uniform_noise(seeds, step, REDRAW),
        uniform_noise(seeds, step + 1, FIRST_DRAW),
        uniform_noise(seeds + 1, step, FIRST_DRAW),
    ]
    columns.append(uniform_noise(seeds + 2**40, step, FIRST_DRAW))
    correlation = np.corrcoef(torch.cat(columns, dim=1).T.numpy())
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.1


def test_noise_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the largest hash, whose noise would round to 1 in float32 and draw past the last code."""
    monkeypatch.setattr(sampler, "_hash", lambda word: torch.full_like(word, 0xFFFFFFFF))
    noise = uniform_noise(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), FIRST_DRAW)
    assert 1 - 2**-23 < float(noise.max()) < 1


def test_every_bit_of_the_seed_counts() -> None:
    """Seeds that differ in one of 63 bits give different noise."""
    seeds = torch.tensor([0, *(1 << bit for bit in range(63))])
    noise = uniform_noise(seeds, torch.zeros_like(seeds), FIRST_DRAW)
    assert len(set(noise[:, 0].tolist())) == 64


def test_temperature_zero_is_greedy() -> None:
    """It gives the most likely code, whatever the seed."""
    logits = random_logits(2)
    drawn = draw(logits, GREEDY, replace(GREEDY, seed=5, top_k=3, top_p=0.1))
    assert drawn.equal(logits.argmax(-1))


def test_a_slot_draws_the_same_whatever_the_other_slots_hold() -> None:
    """In another slot, beside other requests, at the same step: the same codes."""
    logits = random_logits(6)
    own = replace(PLAIN, temperature=0.8, top_k=40, seed=3)
    others = [replace(PLAIN, temperature=0.1 * n, top_k=n + 1, seed=n) for n in range(5)]
    first = draw(logits, own, *others)[0]
    last = draw(logits.roll(-1, 0), *others, own)[5]
    assert first.equal(last)


def test_another_seed_and_another_step_draw_other_codes() -> None:
    """The noise depends on both."""
    logits = random_logits(1).expand(2, -1, -1)
    drawn = draw(logits, PLAIN, replace(PLAIN, seed=1))
    assert not drawn[0].equal(drawn[1])
    assert not draw(logits[:1], PLAIN, step=10).equal(drawn[:1])


LIKELY = torch.zeros(1, 8, CODEBOOK_SIZE).index_fill_(2, torch.tensor([7]), 4.0)
RAS = replace(GREEDY, ras_window=7, ras_repeats=2)


@pytest.mark.parametrize(
    ("spoken", "sampling", "redrawn"),
    [
        ([7, 7], RAS, True),
        ([7], RAS, False),
        ([7, 7, 1, 2, 3, 4, 5], RAS, True),
        ([7, 7, 1, 2, 3, 4, 5, 6], RAS, False),  # the first has left the window
        ([7, 7], replace(RAS, ras_repeats=3), False),
        ([7, 7], replace(RAS, ras_window=0), False),
        ([7, 7], replace(RAS, ras_repeats=0), False),
        ([7] * 64, replace(RAS, ras_window=64, ras_repeats=64), True),
        ([7] * 63, replace(RAS, ras_window=64, ras_repeats=64), False),
        ([0] * 100 + [7, 7], RAS, True),
    ],
)
def test_a_code_repeated_too_often_is_drawn_again(
    spoken: list[int], sampling: Sampling, redrawn: bool
) -> None:
    """The last `ras_window` steps count; the second draw is from the unmodified distribution."""
    history = history_of(1, *spoken)
    outcomes = torch.cat(
        [draw(LIKELY, replace(sampling, seed=s), step=len(spoken), history=history) for s in range(40)]
    )
    share = float((outcomes == 7).float().mean())
    # In the unmodified distribution code 7 has the probability e^4 / (e^4 + 1025).
    assert share == pytest.approx(np.exp(4) / (np.exp(4) + 1025) if redrawn else 1.0, abs=0.05)


def test_begin_and_end_codes_do_not_count_as_repetition() -> None:
    """The delay pattern repeats them by design."""
    for code in (BEGIN, END):
        likely = torch.zeros(1, 8, CODEBOOK_SIZE).index_fill_(2, torch.tensor([code]), 4.0)
        assert (draw(likely, RAS, history=history_of(1, *[code] * 9)) == code).all()


def test_repetition_is_counted_in_each_codebook_by_itself() -> None:
    """A code that only another codebook repeats is not drawn again."""
    history = history_of(1, 7, 7)
    history[:, :, 1:] = BEGIN
    drawn = torch.cat([draw(LIKELY, replace(RAS, seed=s), step=2, history=history) for s in range(20)])
    assert (drawn[:, 1:] == 7).all()
    assert not (drawn[:, 0] == 7).all()
