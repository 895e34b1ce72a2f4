"""Sequence: one request in the engine, from the queue to its finished stream."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from time import perf_counter

from gpu_worker.higgs.delay_pattern import STEPS_AFTER_END
from gpu_worker.higgs.device_queue import DeviceTimer, HostCopy
from gpu_worker.higgs.prompt import Prompt
from gpu_worker.higgs.sampler import Sampling


class Status(Enum):
    """A sequence's place in the scheduler; FINISHED and DROPPED are final."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()
    DROPPED = auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """A request (`prompt`, `sampling`, `max_steps`) and how far its decoding has come.

    A step adds one row of codes, [8], to the stream. Step 0 is all begin codes; it is part of
    the prefill.
    """

    prompt: Prompt
    sampling: Sampling
    max_steps: int
    status: Status = Status.WAITING
    slot: int = -1
    steps_launched: int = 1
    first_end: int | None = None  # step of the first end code, once the host has read it
    queued_at: float = field(default_factory=perf_counter)
    admitted_at: float = 0.0
    prefill_timer: DeviceTimer | None = None
    future: Future[HostCopy] = field(default_factory=Future)
    """The finished stream `[steps, 8]`; cancelled when the request is."""

    @property
    def steps_needed(self) -> int:
        """Steps until every frame before the first end code is complete, `max_steps` at most."""
        if self.first_end is None:
            return self.max_steps
        return min(self.max_steps, self.first_end + STEPS_AFTER_END)

    @property
    def all_steps_launched(self) -> bool:
        """Whether the device has been given every step that the sequence needs."""
        return self.steps_launched >= self.steps_needed

    def resolve(self, result: HostCopy | BaseException) -> None:
        """Set the future to the stream or to an exception; does nothing if the future was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)
