"""Scheduler: which request holds which slot. Pure Python; it never touches a tensor."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from gpu_worker.higgs.sequence import Sequence, Status


class Scheduler:
    """First come, first served, into the lowest free slot."""

    def __init__(self, slots: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}
        self._free = list(range(slots))

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nobody speaks."""
        return not self.waiting and not self.running

    def add(self, sequence: Sequence) -> None:
        """Queue a request."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Sequence]:
        """Move waiting requests into the free slots; those that entered, oldest first."""
        admitted = []
        while self.waiting and self._free:
            sequence = self.waiting.popleft()
            sequence.slot = heapq.heappop(self._free)
            sequence.status = Status.RUNNING
            self.running[sequence.slot] = sequence
            admitted.append(sequence)
        return admitted

    def launched(self, steps: int) -> None:
        """Count `steps` more for every row; a row stops by itself where it is done."""
        for sequence in self.running.values():
            sequence.steps += steps

    def postprocess(self, first_ends: Iterable[tuple[Sequence, int]]) -> list[Sequence]:
        """Note the first end codes that were seen; free and return the rows that have spoken."""
        for sequence, step in first_ends:
            sequence.first_end = step
        spoken = [sequence for sequence in self.running.values() if sequence.spoken]
        for sequence in spoken:
            self._leave(sequence, Status.FINISHED)
        return spoken

    def drop(self, sequence: Sequence) -> bool:
        """Take a request out, wherever it stands; whether it held a slot."""
        if sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
            sequence.status = Status.DROPPED
            return False
        if sequence.status is Status.RUNNING:
            self._leave(sequence, Status.DROPPED)
            return True
        return False

    def everyone(self) -> list[Sequence]:
        """Who speaks and who waits."""
        return [*self.running.values(), *self.waiting]

    def _leave(self, sequence: Sequence, status: Status) -> None:
        del self.running[sequence.slot]
        heapq.heappush(self._free, sequence.slot)
        sequence.status = status
