"""Capacity: how many slots of how many tokens fit into a card's free memory, by a formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpu_worker.checkpoints.source import ModelError

DEFAULT_SLOTS = 32
DEFAULT_SLOT_LENGTH = 2304
"""Without a card to choose by: a voice sample of 30 s and a chunk of 500 characters fit such a slot."""

SLOT_COUNTS = (128, 96, 64, 48, 32, 24, 16, 12, 8, 4, 2, 1)
"""From which a card's slots are chosen: equal cards get equal numbers, which a seed's codes depend on."""

LONGER_SLOTS = (4096, 3072)
"""Tokens of a slot where the largest number of slots leaves room."""

COMPUTED_WORK_BYTES = 1_950_000_000
"""Prefill of a whole slot 0.23 GB, encoding 30 s 0.92, recorded windows 0.78; the tests add them up."""

LIBRARIES_BYTES = 800_000_000
"""CUDA's context, its libraries and their workspaces: a guess until it is measured on a card."""


@dataclass(frozen=True, slots=True)
class MemoryTerms:
    """What takes a card's memory, in bytes; `token` is one token of one slot."""

    weights: int
    codec: int
    prefix_cache: int
    token: int
    reserved: int = 0  # for other models on the same card
    work: int = COMPUTED_WORK_BYTES + LIBRARIES_BYTES

    def needed(self, slots: int, slot_length: int) -> int:
        """Bytes that the engine needs with `slots` slots of `slot_length` tokens."""
        fixed = self.weights + self.codec + self.prefix_cache + self.reserved + self.work
        return fixed + slots * slot_length * self.token

    def describe(self, slots: int, slot_length: int) -> str:
        """The formula with its terms in GB, for the log."""
        terms = {
            "weights": self.weights,
            "codec": self.codec,
            f"{slots} slots of {slot_length} tokens": slots * slot_length * self.token,
            "prefix cache": self.prefix_cache,
            "reserved": self.reserved,
            "work and libraries": self.work,
        }
        parts = " + ".join(f"{name} {_gb(size)}" for name, size in terms.items() if size)
        return f"{parts} = {_gb(self.needed(slots, slot_length))} GB"


@dataclass(frozen=True, slots=True)
class Capacity:
    """The engine's slots and the tokens that each holds."""

    slots: int
    slot_length: int


def choose_capacity(
    terms: MemoryTerms, free: int, *, slots: int | None = None, slot_length: int | None = None
) -> Capacity:
    """The most slots that fit into `free` bytes, then the longest; what is given is kept.

    Raises `ModelError` naming the terms, and what would fit, if what is given does not.
    """
    for count, length in _candidates(slots, slot_length):
        if terms.needed(count, length) <= free:
            return Capacity(count, length)
    count, length = slots or 1, slot_length or DEFAULT_SLOT_LENGTH
    raise ModelError(
        f"{count} slots of {length} tokens need more memory than the card's {_gb(free)} GB that are free:"
        f" {terms.describe(count, length)}; {_what_fits(terms, free)}"
    )


def weight_bytes(model: Any, *, without: str = "text_lm_head") -> int:
    """Bytes of a model's parameters, without the part of that name."""
    return sum(
        int(parameter.nbytes)
        for name, parameter in model.named_parameters()
        if not name.startswith(f"{without}.")
    )


def _candidates(slots: int | None, slot_length: int | None) -> Iterator[tuple[int, int]]:
    """Slots and lengths to try, the best first."""
    if slots is not None and slot_length is not None:
        yield slots, slot_length
        return
    counts = SLOT_COUNTS if slots is None else (slots,)
    if slot_length is not None:
        yield from ((count, slot_length) for count in counts)
        return
    yield from ((counts[0], length) for length in LONGER_SLOTS)
    yield from ((count, DEFAULT_SLOT_LENGTH) for count in counts)


def _what_fits(terms: MemoryTerms, free: int) -> str:
    for count in SLOT_COUNTS:
        if terms.needed(count, DEFAULT_SLOT_LENGTH) <= free:
            return f"{count} slots of {DEFAULT_SLOT_LENGTH} tokens would fit"
    least = terms.needed(1, DEFAULT_SLOT_LENGTH)
    return (
        f"not even one slot of {DEFAULT_SLOT_LENGTH} tokens fits: it takes a card with {_gb(least)} GB free"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"
