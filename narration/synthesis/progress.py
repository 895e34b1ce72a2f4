"""How far a run is, told to whoever listens: a terminal, a page, nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of distinct clips in this run; `spent` in USD."""

    step: str  # plan, synthesize, master, publish
    total: int = 0
    cached: int = 0
    made: int = 0
    failed: int = 0
    spent: float = 0.0

    @property
    def percent(self) -> float:
        """Share of clips at hand, 0 to 100."""
        return 100.0 * (self.cached + self.made) / self.total if self.total else 100.0


_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Have `listener` called with every step of runs started inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(progress: Progress) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)
