"""The sampler: transformers' distribution, noise from the seed alone, rows blind to each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOK_SIZE, END
from gpu_worker.higgs.sampler import Sampling, SamplingSlots, _uniform, sample
from narration.contract import MAX_RAS_WINDOW

PLAIN = Sampling(temperature=1.0, top_k=1026, top_p=1.0, seed=0, ras_window=0, ras_repeats=0)
GREEDY = replace(PLAIN, temperature=0.0)


def rows_of(*samplings: Sampling) -> SamplingSlots:
    rows = SamplingSlots.empty(len(samplings), torch.device("cpu"))
    for row, sampling in enumerate(samplings):
        rows.write(row, sampling)
    return rows


def history_of(rows: int, *frames: int) -> torch.Tensor:
    """A ring in which step s says `frames[s]` in every codebook."""
    ring = torch.full((rows, MAX_RAS_WINDOW, 8), BEGIN)
    for step, code in enumerate(frames):
        ring[:, step % MAX_RAS_WINDOW] = code
    return ring


def draw(
    logits: torch.Tensor, *samplings: Sampling, step: int = 9, history: torch.Tensor | None = None
) -> torch.Tensor:
    rows = len(samplings)
    ring = history_of(rows) if history is None else history
    return sample(logits, rows_of(*samplings), torch.full((rows,), step), ring)


def random_logits(rows: int, seed: int = 0, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(rows, 8, CODEBOOK_SIZE, generator=torch.Generator().manual_seed(seed))


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
    """Over many seeds the codes fall as temperature, top-k and top-p have it, and never elsewhere."""
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
        # Chi-squared over the codes that are likely enough to be counted, the others taken as one.
        counted = p * seeds >= 5
        wanted = torch.cat([p[counted], p[~counted].sum()[None]]) * seeds
        found = torch.cat([counts[counted], counts[~counted].sum()[None]])
        square = float(((found - wanted) ** 2 / wanted.clamp_min(1)).sum())
        freedom = int(counted.sum())
        assert square < freedom + 4 * (2 * freedom) ** 0.5 + 6, (codebook, square, freedom)


def test_noise_is_uniform_and_independent() -> None:
    """Over seeds, steps, codebooks and purposes: the mean, the variance, no correlation."""
    seeds = torch.arange(3_000)
    step = torch.full_like(seeds, 17)
    noise = _uniform(seeds, step, 0)
    assert noise.min() > 0
    assert noise.max() < 1
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.003)
    columns = [noise, _uniform(seeds, step, 1), _uniform(seeds, step + 1, 0), _uniform(seeds + 1, step, 0)]
    columns.append(_uniform(seeds + 2**40, step, 0))
    correlation = np.corrcoef(torch.cat(columns, dim=1).T.numpy())
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.1


def test_every_bit_of_the_seed_counts() -> None:
    """Seeds that differ in one bit of 63 draw differently."""
    seeds = torch.tensor([0, *(1 << bit for bit in range(63))])
    noise = _uniform(seeds, torch.zeros_like(seeds), 0)
    assert len(set(noise[:, 0].tolist())) == 64


def test_temperature_zero_is_greedy() -> None:
    """Whatever the seed, the likeliest code."""
    logits = random_logits(2)
    drawn = draw(logits, GREEDY, replace(GREEDY, seed=5, top_k=3, top_p=0.1))
    assert drawn.equal(logits.argmax(-1))


def test_a_row_draws_the_same_whatever_its_neighbours() -> None:
    """In another slot, beside other rows, at the same step of its own: the same codes."""
    logits = random_logits(6)
    mine = replace(PLAIN, temperature=0.8, top_k=40, seed=3)
    others = [replace(PLAIN, temperature=0.1 * n, top_k=n + 1, seed=n) for n in range(5)]
    first = draw(logits, mine, *others)[0]
    last = draw(logits.roll(-1, 0), *others, mine)[5]
    assert first.equal(last)


def test_another_seed_and_another_step_draw_otherwise() -> None:
    """The noise is a function of both."""
    logits = random_logits(1).expand(2, -1, -1)
    drawn = draw(logits, PLAIN, replace(PLAIN, seed=1))
    assert not drawn[0].equal(drawn[1])
    assert not draw(logits[:1], PLAIN, step=10).equal(drawn[:1])


LIKELY = torch.zeros(1, 8, CODEBOOK_SIZE).index_fill_(2, torch.tensor([7]), 4.0)
RAS = replace(GREEDY, ras_window=7, ras_repeats=2)


@pytest.mark.parametrize(
    ("frames", "sampling", "redrawn"),
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
def test_a_code_heard_too_often_is_drawn_again(frames: list[int], sampling: Sampling, redrawn: bool) -> None:
    """Counted are the last `ras_window` steps; drawn again is from the plain distribution."""
    history = history_of(1, *frames)
    outcomes = torch.cat(
        [draw(LIKELY, replace(sampling, seed=s), step=len(frames), history=history) for s in range(40)]
    )
    share = float((outcomes == 7).float().mean())
    # Redrawn without temperature, code 7 has e^4 in e^4 + 1025.
    assert share == pytest.approx(np.exp(4) / (np.exp(4) + 1025) if redrawn else 1.0, abs=0.05)


def test_begin_and_end_codes_are_no_repetition() -> None:
    """The delay pattern repeats them on purpose."""
    for code in (BEGIN, END):
        likely = torch.zeros(1, 8, CODEBOOK_SIZE).index_fill_(2, torch.tensor([code]), 4.0)
        assert (draw(likely, RAS, history=history_of(1, *[code] * 9)) == code).all()


def test_a_window_counts_each_codebook_alone() -> None:
    """A code that another codebook repeats is not drawn again."""
    history = history_of(1, 7, 7)
    history[:, :, 1:] = BEGIN
    drawn = torch.cat([draw(LIKELY, replace(RAS, seed=s), step=2, history=history) for s in range(20)])
    assert (drawn[:, 1:] == 7).all()
    assert not (drawn[:, 0] == 7).all()
