"""Scheduler: which sequence holds which slot. Pure Python, without tensors."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from gpu_worker.higgs.sequence import Sequence, Status


class Scheduler:
    """First come, first served, into the lowest free slot."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}
        self._free = list(range(slots))

    @property
    def idle(self) -> bool:
        """Whether no sequence waits and none runs."""
        return not self.waiting and not self.running

    def add(self, sequence: Sequence) -> None:
        """Append a sequence to the waiting ones."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Sequence]:
        """Move waiting sequences into the free slots; returns those moved, oldest first."""
        admitted = []
        while self.waiting and self._free:
            sequence = self.waiting.popleft()
            sequence.slot = heapq.heappop(self._free)
            sequence.status = Status.RUNNING
            self.running[sequence.slot] = sequence
            admitted.append(sequence)
        return admitted

    def count_launched(self, steps: int) -> None:
        """Add `steps` to every running sequence; on the device a finished slot ignores further steps."""
        for sequence in self.running.values():
            sequence.steps_launched += steps

    def postprocess(self, first_ends: Iterable[tuple[Sequence, int]]) -> list[Sequence]:
        """Note the steps of first end codes; free the slots of finished sequences and return these."""
        for sequence, step in first_ends:
            sequence.first_end = step
        finished = [sequence for sequence in self.running.values() if sequence.all_steps_launched]
        for sequence in finished:
            self._leave(sequence, Status.FINISHED)
        return finished

    def drop(self, sequence: Sequence) -> bool:
        """Remove a waiting or running sequence; returns whether it held a slot."""
        if sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
            sequence.status = Status.DROPPED
            return False
        if sequence.status is Status.RUNNING:
            self._leave(sequence, Status.DROPPED)
            return True
        return False

    def unfinished(self) -> list[Sequence]:
        """All running and waiting sequences."""
        return [*self.running.values(), *self.waiting]

    def _leave(self, sequence: Sequence, status: Status) -> None:
        del self.running[sequence.slot]
        heapq.heappush(self._free, sequence.slot)
        sequence.status = status
