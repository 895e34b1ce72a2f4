"""Progress of a run, reported to the function that the caller registered: a terminal's, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The step of a run: how many of its chunks are done, seconds of speech, and money.

    `speech_seconds` are of the clips that are stored; `expected_seconds` are of the whole narration,
    with the plan's estimate for what is missing. `spent` in USD.
    """

    step: str  # plan, synthesize, master, publish
    total: int = 0
    cached: int = 0
    synthesized: int = 0
    failed: int = 0
    spent: float = 0.0
    speech_seconds: float = 0.0
    expected_seconds: float = 0.0

    @property
    def percent(self) -> float:
        """Share of chunks with a clip, 0 to 100."""
        return 100.0 * (self.cached + self.synthesized) / self.total if self.total else 100.0


_callback: ContextVar[Callable[[Progress], None] | None] = ContextVar("progress_callback", default=None)


@contextmanager
def on_progress(callback: Callable[[Progress], None]) -> Iterator[None]:
    """Call `callback` with the progress of every run that starts in the block."""
    token = _callback.set(callback)
    try:
        yield
    finally:
        _callback.reset(token)


def report_progress(progress: Progress) -> None:
    """Pass `progress` to the registered function, if there is one."""
    callback = _callback.get()
    if callback is not None:
        callback(progress)
