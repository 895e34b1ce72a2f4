"""Capacity by the card: what fits into its free memory, said with the formula's terms."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.higgs.capacity import Capacity, MemoryTerms, choose_capacity
from gpu_worker.open_engine import open_higgs
from gpu_worker.settings import WorkerSettings

PUBLISHED = MemoryTerms(
    weights=10_754_000_000, codec=801_000_000, prefix_cache=512 << 20, token=2 * 28 * 8 * 128 * 2
)


@pytest.mark.parametrize(
    ("card", "free_gb", "capacity"),
    [
        ("L4, 24 GB", 23.7, Capacity(32, 2304)),
        ("RTX 4090, 24 GB", 25.2, Capacity(32, 2304)),
        ("L40S, 48 GB", 47.0, Capacity(96, 2304)),
        ("A100, 80 GB", 84.0, Capacity(128, 4096)),
        ("H100 that another model shares", 60.0, Capacity(128, 3072)),
        ("16 GB", 16.5, Capacity(4, 2304)),
    ],
)
def test_each_card_gets_the_slots_that_fit(card: str, free_gb: float, capacity: Capacity) -> None:
    """As many slots as fit, up to 128; then longer ones."""
    assert choose_capacity(PUBLISHED, round(free_gb * 1e9)) == capacity, card
    assert PUBLISHED.needed(capacity.slots, capacity.slot_length) <= free_gb * 1e9


def test_what_is_set_is_kept() -> None:
    """Slots set: as long as fits. Slot length set: as many as fit. Both set: both."""
    free = 48_000_000_000
    assert choose_capacity(PUBLISHED, free, slots=16) == Capacity(16, 4096)
    assert choose_capacity(PUBLISHED, free, slot_length=4096) == Capacity(64, 4096)
    assert choose_capacity(PUBLISHED, free, slots=3, slot_length=300) == Capacity(3, 300)


@pytest.mark.parametrize(
    ("free_gb", "slots", "said"),
    [
        (20.0, 32, "16 slots of 2304 tokens would fit"),
        (11.0, None, "not even one slot of 2304 tokens fits: it takes a card with 15.1 GB free"),
    ],
)
def test_a_card_with_too_little_memory_says_what_would_fit(
    free_gb: float, slots: int | None, said: str
) -> None:
    """The message names the free memory and the formula's terms."""
    with pytest.raises(ModelError, match=said) as refused:
        choose_capacity(PUBLISHED, round(free_gb * 1e9), slots=slots)
    assert f"the card's {free_gb} GB that are free: weights 10.8 + codec 0.8 + " in str(refused.value)


def test_reserved_memory_is_a_term_of_the_formula() -> None:
    """Other models on the card leave room for fewer slots."""
    reserving = MemoryTerms(
        **{name: getattr(PUBLISHED, name) for name in PUBLISHED.__slots__} | {"reserved": 10**10}
    )
    assert choose_capacity(reserving, 47_000_000_000).slots < choose_capacity(PUBLISHED, 47_000_000_000).slots
    assert "reserved 10.0" in reserving.describe(1, 2304)


def test_an_old_driver_is_said_in_words(
    codec_folder: object, model_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver older than PyTorch's CUDA build: both versions and the remedy, not `no device`."""
    old = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver"

    def init() -> None:
        raise RuntimeError(old)

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    settings = WorkerSettings(model=str(model_folder), codec=str(codec_folder), device="cuda")
    with pytest.raises(ModelError, match=r"supports CUDA 12\.4 at most, .* built for CUDA 13\.0"):
        open_higgs(settings)


def test_a_card_without_bfloat16_is_refused(
    codec_folder: object, model_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card from before Ampere is named with its compute capability."""
    card = SimpleNamespace(
        is_available=lambda: True,
        get_device_capability=lambda: (7, 5),
        get_device_name=lambda: "Tesla T4",
    )
    monkeypatch.setattr(torch, "cuda", card)
    settings = WorkerSettings(model=str(model_folder), codec=str(codec_folder), device="cuda")
    with pytest.raises(ModelError, match=r"Tesla T4 has compute capability 7\.5"):
        open_higgs(settings)
