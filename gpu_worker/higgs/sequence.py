"""Sequence: one request on its way through the engine."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from time import perf_counter
from typing import Any

from gpu_worker.higgs.delay_pattern import SETTLING_STEPS
from gpu_worker.higgs.prompt import Prompt
from gpu_worker.higgs.sampler import Sampling


class Status(Enum):
    """Where a sequence stands; the last two are final."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()
    DROPPED = auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """What is asked (`prompt`, `sampling`, `max_steps`), and how far it has come.

    A step is one row of the delayed stream; step 0 is the begin code, which the prefill implies.
    """

    prompt: Prompt
    sampling: Sampling
    max_steps: int
    status: Status = Status.WAITING
    slot: int = -1
    steps: int = 1
    first_end: int | None = None  # the step that held the first end code, once the host has seen it
    queued_at: float = field(default_factory=perf_counter)
    admitted_at: float = 0.0
    prefill: Any = None  # the runner's stopwatch for it
    outcome: Future[Any] = field(default_factory=Future)
    """Its stream, once spoken; cancelling it is how whoever asked takes the request back."""

    @property
    def last_step(self) -> int:
        """Steps that the row needs: to the cap, or until the frames before the first end code are whole."""
        if self.first_end is None:
            return self.max_steps
        return min(self.max_steps, self.first_end + SETTLING_STEPS)

    def deliver(self, result: Any) -> None:
        """Hand over the stream, or as an exception what went wrong; nobody may want it any more."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)

    @property
    def spoken(self) -> bool:
        """Whether every step that the row needs has been launched."""
        return self.steps >= self.last_step
