"""Step loop: the thread that schedules, runs, postprocesses and collects; it alone uses the model."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from time import perf_counter

import torch

from gpu_worker.higgs.device_loss import OnFatal, Watchdog, engine_failure
from gpu_worker.higgs.model_runner import LaunchedSteps, ModelRunner
from gpu_worker.higgs.scheduler import Scheduler
from gpu_worker.higgs.sequence import Sequence
from narration.contract import ContractError, ErrorCode

STEPS_PER_LAUNCH = 8
"""Decode steps launched before the host reads end codes: each reading waits for the device."""

log = logging.getLogger(__name__)


class StepLoop:
    """Decodes every submitted sequence, as many at a time as the scheduler has slots.

    With `launches_ahead` 1 the device has one launch queued behind the one that the host reads,
    and so has work while the host admits and collects. The device stops a finished slot by
    itself, so reading its end late changes no code.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: ModelRunner,
        *,
        launches_ahead: int,
        on_fatal: OnFatal,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._launches: deque[LaunchedSteps] = deque()
        self._launches_ahead = launches_ahead
        self._submitted: SimpleQueue[Sequence | None] = SimpleQueue()
        self._on_fatal = on_fatal
        self._watchdog = watchdog or Watchdog(None, on_fatal)
        self._stopping = False
        self._thread = threading.Thread(target=self._run_until_stopped, name="steps", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Queue `sequence`; its future gets the stream or an exception."""
        self._submitted.put(sequence)

    def stop(self) -> None:
        """Finish the submitted sequences, then end the thread."""
        self._submitted.put(None)
        self._thread.join()

    def step(self) -> None:
        """Schedule waiting sequences, run steps in every slot, postprocess end codes, collect streams."""
        self._drop_cancelled()
        self._admit(self._scheduler.schedule())
        self._run(tuple(self._scheduler.running.values()))
        for launch in self._launches_to_read():
            self._collect(self._scheduler.postprocess(launch.first_ends()))

    def run_to_end(self, sequence: Sequence) -> None:
        """Decode one sequence on the calling thread, before `start`; raises what decoding raised."""
        self._scheduler.add(sequence)
        while not self._scheduler.idle:
            self.step()
        sequence.future.result()

    def _run_until_stopped(self) -> None:
        try:
            while self._receive():
                with self._watchdog.window():
                    self.step()
        except Exception as error:
            log.exception("the step loop failed")
            for sequence in self._scheduler.unfinished():
                sequence.resolve(engine_failure())
            self._on_fatal(error)
            while (late := self._submitted.get()) is not None:
                late.resolve(engine_failure())

    def _receive(self) -> bool:
        """Move submitted sequences to the scheduler, waiting while it is idle; False when to end."""
        while True:
            try:
                sequence = self._submitted.get(block=self._scheduler.idle and not self._stopping)
            except Empty:
                return not (self._scheduler.idle and self._stopping)
            if sequence is None:
                self._stopping = True
            else:
                self._scheduler.add(sequence)

    def _admit(self, sequences: Iterable[Sequence]) -> None:
        for sequence in sequences:
            sequence.admitted_at = perf_counter()
            try:
                self._prefill(sequence)
            except torch.OutOfMemoryError:
                self._drop_for_memory(sequence)
            except torch.AcceleratorError:
                raise  # the device itself failed: no result after this can be trusted
            except Exception as error:
                log.exception("a prompt could not be prefilled")
                self._drop(sequence)
                sequence.resolve(error)

    def _prefill(self, sequence: Sequence) -> None:
        try:
            sequence.prefill_timer = self._runner.admit(sequence)
        except torch.OutOfMemoryError:
            # Cached prefixes only save time: their memory goes before a request is refused.
            self._runner.clear_prefixes()
            sequence.prefill_timer = self._runner.admit(sequence)

    def _run(self, running: tuple[Sequence, ...]) -> None:
        if not running:
            self._launches.clear()
            return
        try:
            self._launches.append(self._runner.run(running, STEPS_PER_LAUNCH))
        except torch.OutOfMemoryError:
            # Some of the steps may have run; not counting them only makes the host read the end later.
            self._runner.clear_prefixes()
            self._drop_for_memory(max(running, key=lambda sequence: sequence.admitted_at))
        else:
            self._scheduler.count_launched(STEPS_PER_LAUNCH)

    def _launches_to_read(self) -> Iterator[LaunchedSteps]:
        while len(self._launches) > self._launches_ahead:
            yield self._launches.popleft()

    def _collect(self, finished: Iterable[Sequence]) -> None:
        for sequence in finished:
            sequence.resolve(self._runner.stream(sequence))

    def _drop_for_memory(self, sequence: Sequence) -> None:
        log.warning("out of device memory: one request is refused")
        self._drop(sequence)
        sequence.resolve(ContractError(ErrorCode.OUT_OF_MEMORY, "the worker ran out of device memory"))

    def _drop_cancelled(self) -> None:
        for sequence in self._scheduler.unfinished():
            if sequence.future.cancelled():
                self._drop(sequence)

    def _drop(self, sequence: Sequence) -> None:
        if self._scheduler.drop(sequence):
            self._runner.release(sequence.slot)
