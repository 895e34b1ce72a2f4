"""Step loop: schedule, run, postprocess, collect, on a thread that alone touches the model."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter

import torch

from gpu_worker.higgs.model_runner import ModelRunner, StepWindow
from gpu_worker.higgs.scheduler import Scheduler
from gpu_worker.higgs.sequence import Sequence
from narration.contract import ContractError, ErrorCode

WINDOW_STEPS = 8
"""Steps launched between two looks at what they brought: a look costs a wait for the device."""

log = logging.getLogger(__name__)


class StepLoop:
    """Speaks every sequence that is submitted, `slots` of them at a time.

    On a CUDA device one window is always queued ahead of the one looked at, so that the device
    has work while the host reads, admits and hands over. An end code is seen seven steps before
    its row is done, so the look ahead costs a row nothing.
    """

    def __init__(self, runner: ModelRunner, *, slots: int, on_fatal: Callable[[BaseException], None]) -> None:
        self._runner = runner
        self._scheduler = Scheduler(slots)
        self._windows: deque[StepWindow] = deque()
        self._ahead = 1 if runner.device.type == "cuda" else 0
        self._submitted: SimpleQueue[Sequence | None] = SimpleQueue()
        self._on_fatal = on_fatal
        self._stopping = False
        self._thread = threading.Thread(target=self._run_until_stopped, name="steps", daemon=True)

    def start(self) -> None:
        """Begin to take what is submitted."""
        self._thread.start()

    def submit(self, sequence: Sequence) -> None:
        """Queue `sequence`; its `outcome` becomes its stream, or says what went wrong."""
        self._submitted.put(sequence)

    def stop(self) -> None:
        """Speak what was submitted, then end the thread."""
        self._submitted.put(None)
        self._thread.join()

    def step(self) -> None:
        """Admit who fits, run a window for everyone, hand over those who have spoken."""
        self._drop_cancelled()
        for sequence in self._scheduler.schedule():
            self._admit(sequence)
        self._run()
        while len(self._windows) > self._ahead:
            for sequence in self._scheduler.postprocess(self._windows.popleft().first_ends()):
                self._collect(sequence)

    def speak(self, sequence: Sequence) -> None:
        """Speak one sequence on the caller's thread: before `start`, to warm up. Raises what went wrong."""
        self._scheduler.add(sequence)
        while not self._scheduler.idle:
            self.step()
        sequence.outcome.result()

    def _run_until_stopped(self) -> None:
        try:
            while self._receive():
                self.step()
        except Exception as error:
            log.exception("the step loop failed")
            for sequence in self._scheduler.everyone():
                sequence.deliver(_lost())
            self._on_fatal(error)
            while (late := self._submitted.get()) is not None:
                late.deliver(_lost())

    def _receive(self) -> bool:
        """Take what was submitted, waiting while there is nothing else to do; False when to end."""
        while True:
            try:
                sequence = self._submitted.get(block=self._scheduler.idle and not self._stopping)
            except Empty:
                return not (self._scheduler.idle and self._stopping)
            if sequence is None:
                self._stopping = True
            else:
                self._scheduler.add(sequence)

    def _admit(self, sequence: Sequence) -> None:
        sequence.admitted_at = perf_counter()
        try:
            try:
                sequence.prefill = self._runner.admit(sequence)
            except torch.OutOfMemoryError:
                # Remembered prefixes save time, no more: they go before anybody's clip does.
                self._runner.forget_prefixes()
                sequence.prefill = self._runner.admit(sequence)
        except torch.OutOfMemoryError:
            self._shed(sequence)
        except torch.AcceleratorError:
            raise  # the device's own failure: nothing after it can be trusted
        except Exception as error:
            log.exception("a prompt could not be prefilled")
            self._drop(sequence)
            sequence.deliver(error)

    def _run(self) -> None:
        running = tuple(self._scheduler.running.values())
        if not running:
            self._windows.clear()
            return
        try:
            self._windows.append(self._runner.run(running, WINDOW_STEPS))
        except torch.OutOfMemoryError:
            # Steps that were made are not counted: a row stops by itself, and is only seen later.
            self._runner.forget_prefixes()
            self._shed(max(running, key=lambda sequence: sequence.admitted_at))
        else:
            self._scheduler.launched(WINDOW_STEPS)

    def _collect(self, sequence: Sequence) -> None:
        sequence.deliver(self._runner.stream(sequence))

    def _shed(self, sequence: Sequence) -> None:
        log.warning("out of memory: one request is sent back")
        self._drop(sequence)
        sequence.deliver(ContractError(ErrorCode.OUT_OF_MEMORY, "the worker ran out of device memory"))

    def _drop_cancelled(self) -> None:
        for sequence in self._scheduler.everyone():
            if sequence.outcome.cancelled():
                self._drop(sequence)

    def _drop(self, sequence: Sequence) -> None:
        if self._scheduler.drop(sequence):
            self._runner.release(sequence.slot)


def _lost() -> ContractError:
    return ContractError(ErrorCode.ENGINE_FAILURE, "the engine failed and the worker is being replaced")
