"""How long each part of the worker's start took, for its log and the self-test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class StartTimes:
    """Seconds of each part of a start, in the order in which the parts began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block as the part `name`; a part that is timed again adds to its seconds."""
        began = perf_counter()
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] += perf_counter() - began

    def describe(self) -> str:
        """Every part with its seconds: `torch 3.2 s, weights 41.0 s`."""
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())


START_TIMES = StartTimes()
"""The times of this process's start."""
