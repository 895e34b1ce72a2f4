"""Model runner: the one room that touches the device's model, cache, rows and CUDA graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from gpu_worker.higgs.decoder import Decoder, Run
from gpu_worker.higgs.prefix_cache import PrefixCache
from gpu_worker.higgs.prompt import Segment
from gpu_worker.higgs.sequence import Sequence
from gpu_worker.higgs.slot_state import NEVER, SlotState
from narration.contract import MAX_RAS_WINDOW


class Pending:
    """A tensor on its way to the host; `get` waits for it, and for nothing queued after it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event = torch.cuda.Event() if tensor.is_cuda else None
        # A copy on the CPU too: its source is written in place.
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self._host.copy_(tensor, non_blocking=True)
        if self._event is not None:
            self._event.record()

    def get(self) -> np.ndarray[Any, Any]:
        """The values as they were when the copy was queued."""
        if self._event is not None:
            self._event.synchronize()
        array: np.ndarray[Any, Any] = self._host.numpy()
        return array


class Stopwatch:
    """Time that queued work takes, by the device's clock where it has one."""

    def __init__(self, device: torch.device) -> None:
        self._events = (
            [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
        )
        self._times: list[float] = []
        self.mark()

    def mark(self) -> None:
        """Call once, behind the last of the work."""
        if self._events:
            self._events[len(self._times)].record()
        self._times.append(perf_counter())

    def seconds(self) -> float:
        """Time between beginning and mark; waits for the work."""
        if not self._events:
            return self._times[1] - self._times[0]
        self._events[1].synchronize()
        return float(self._events[0].elapsed_time(self._events[1])) / 1000


@dataclass(frozen=True, slots=True, eq=False)
class StepWindow:
    """Some steps launched for `sequences`; what they brought can be read later."""

    sequences: tuple[Sequence, ...]
    first_end: Pending

    def first_ends(self) -> list[tuple[Sequence, int]]:
        """Rows in which an end code has been seen, with its step. Waits for the device."""
        steps = self.first_end.get()
        return [(s, int(steps[s.slot])) for s in self.sequences if steps[s.slot] < NEVER]


class ModelRunner:
    """Fixed slots over a static cache. Calls only queue work; reading what is `Pending` waits.

    Not safe for use by several threads at once.
    """

    def __init__(self, decoder: Decoder, *, slots: int, slot_length: int, prefix_bytes: int) -> None:
        self.device = decoder.device
        self._decoder = decoder
        with torch.inference_mode():
            self._cache = decoder.new_cache(slots, slot_length)
            self._rows = SlotState.empty(slots, slot_length, self.device)
        self._prefixes = PrefixCache(prefix_bytes)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def facts(self) -> dict[str, str]:
        """Device and number format: the same request repeats its codes only where they are the same."""
        cuda = self.device.type == "cuda"
        device = torch.cuda.get_device_name(self.device) if cuda else "cpu"
        return {"device": device, "dtype": str(self._decoder.dtype).removeprefix("torch.")}

    def admit(self, sequence: Sequence) -> Stopwatch:
        """Prefill `sequence` into its slot.

        The prefix is prefilled apart from the rest whether it is remembered or not, so that
        remembering it changes nothing but the time it takes.
        """
        watch = Stopwatch(self.device)
        prompt, slot = sequence.prompt, sequence.slot
        start = prompt.prefix_length
        with torch.inference_mode():
            row = self._cache[:, slot]
            known = self._prefixes.get(prompt.prefix_key)
            if known is None:
                self._decoder.prefill(self._runs(prompt.prefix), 0, row)
                self._prefixes.put(prompt.prefix_key, row[:, :start])
            else:
                row[:, :start] = known
            self._decoder.prefill(self._runs(prompt.own), start, row)
            self._rows.admit(
                slot,
                tokens=len(prompt.ids),
                cap=sequence.max_steps,
                sampling=sequence.sampling,
                heard=self._upload(prompt.last_audio(MAX_RAS_WINDOW - 1)),
            )
        watch.mark()
        return watch

    def release(self, slot: int) -> None:
        """Let the row in `slot` stand still until another is admitted there."""
        with torch.inference_mode():
            self._rows.release(slot)

    def run(self, sequences: Iterable[Sequence], steps: int) -> StepWindow:
        """Queue `steps` steps of every row; the window is about `sequences`."""
        with torch.inference_mode():
            for _ in range(steps):
                if self._graph is None:
                    self._step()
                else:
                    self._graph.replay()
            return StepWindow(tuple(sequences), Pending(self._rows.first_end))

    def stream(self, sequence: Sequence) -> Pending:
        """Codes that a row which has spoken has made, `[steps, 8]`."""
        with torch.inference_mode():
            return Pending(self._rows.stream[sequence.slot, : sequence.last_step])

    def capture(self) -> None:
        """Record the step as a CUDA graph, once, before any request.

        Launched one by one, its hundreds of small operations would take longer than their work.
        One graph serves all: the step has one shape, and each row's length is read on the device.
        """
        with torch.inference_mode():
            aside = torch.cuda.Stream(self.device)
            aside.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(aside):
                for _ in range(3):  # libraries choose and load their kernels outside the recording
                    self._step()
            torch.cuda.current_stream(self.device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step()
        self._graph = graph

    def forget_prefixes(self) -> None:
        """Give back the memory of every remembered prefix."""
        self._prefixes.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _step(self) -> None:
        """One code of every codebook for every row: no shape, branch or wait depends on the values."""
        rows = self._rows
        alive = rows.alive()
        position = rows.base + rows.step
        # A row that stands still reads one token of its cache, not all of it.
        lengths = torch.where(alive, position + 1, 1).to(torch.int32)
        logits = self._decoder.next_logits(rows.last, position, lengths, self._cache)
        rows.advance(logits, alive)

    def _runs(self, segments: Iterable[Segment]) -> list[Run]:
        return [
            Run(self._upload(s.ids if s.stream is None else s.stream), is_audio=s.stream is not None)
            for s in segments
        ]

    def _upload(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        tensor = torch.from_numpy(array.astype(np.int64))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor
