"""Samples the resident memory of processes while a benchmark runs them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import psutil  # type: ignore[import-untyped]  # ships no types

SAMPLE_SECONDS = 0.25


@dataclass
class Memory:
    """Resident memory: (seconds on the monotonic clock, MB of the largest process) for each sample."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def sampling(self, processes: Callable[[], list[psutil.Process]]) -> Iterator[None]:
        """Sample `processes` until the block ends."""
        done = threading.Event()

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                self._add(processes())

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        try:
            yield
        finally:
            done.set()
            sampler.join()

    @property
    def peak(self) -> float:
        """The largest sample, in MB."""
        return max((size for _, size in self.samples), default=0.0)

    def medians(self, begin: float, end: float, parts: int = 5) -> list[float]:
        """The median, in MB, in each of `parts` equal parts of the time from `begin` to `end`."""
        edges = [begin + (end - begin) * part / parts for part in range(parts + 1)]
        sizes_by_part = [[size for at, size in self.samples if a <= at < b] for a, b in pairwise(edges)]
        return [statistics.median(sizes) if sizes else 0.0 for sizes in sizes_by_part]

    def _add(self, processes: list[psutil.Process]) -> None:
        sizes = [0.0]
        for process in processes:
            try:
                sizes.append(process.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue
        self.samples.append((time.monotonic(), max(sizes)))
