"""Model runner: prefill and decode steps on the device; owns the key-value cache and the CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_worker.higgs.attention_choice import AttentionName, choose_attention
from gpu_worker.higgs.decoder import Decoder, PrefillPart
from gpu_worker.higgs.device_queue import DeviceTimer, HostCopy, upload
from gpu_worker.higgs.failure_text import one_line
from gpu_worker.higgs.prefix_cache import PrefixCache
from gpu_worker.higgs.prompt import PromptPart
from gpu_worker.higgs.sequence import Sequence
from gpu_worker.higgs.slot_state import NO_END, SlotState
from gpu_worker.higgs.step_trial import Advance, Trial, compile_advance, try_step
from narration.contract import MAX_RAS_WINDOW

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class LaunchedSteps:
    """Steps launched for `sequences`, with a copy of all slots' first end codes behind them."""

    sequences: tuple[Sequence, ...]
    first_end: HostCopy  # [slots]

    def first_ends(self) -> list[tuple[Sequence, int]]:
        """The sequences that have an end code, each with its step; waits for the steps."""
        steps = self.first_end.get()
        return [(s, int(steps[s.slot])) for s in self.sequences if steps[s.slot] < NO_END]


class ModelRunner:
    """Runs the model for a fixed number of slots over a static cache, with the `attention` of that name.

    Methods queue work on the device; only what they return waits for it when it is read. On the
    CPU the work is done at once. Not safe for use by several threads at once.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        slots: int,
        slot_length: int,
        prefix_bytes: int,
        attention: AttentionName | None = None,
    ) -> None:
        self.device = decoder.device
        self.attention = choose_attention(decoder.attention_shape(slots), self.device, attention)
        self.decoder = decoder
        # Of higher priority than the codec's: a decode step waits for no window of a finished clip.
        self._stream = torch.cuda.Stream(self.device, priority=-1) if self.device.type == "cuda" else None
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))  # for the weights
        with self._on_device():
            self.cache = decoder.new_cache(slots, slot_length)
            self.state = SlotState.empty(slots, slot_length, self.device)
        self.prefixes = PrefixCache(prefix_bytes)
        self._advance: Advance = SlotState.advance
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def slot_length(self) -> int:
        """Tokens that a slot holds."""
        return int(self.cache.shape[2])

    @property
    def configuration(self) -> dict[str, str]:
        """Device, dtype, kernels; a request repeats its codes only where these are the same."""
        cuda = self.device.type == "cuda"
        device = torch.cuda.get_device_name(self.device) if cuda else "cpu"
        return {
            "device": device,
            "dtype": str(self.decoder.dtype).removeprefix("torch."),
            "attention": self.attention.name,
            "sampler": "plain" if self._advance is SlotState.advance else "compiled",
        }

    def prepare(self, *, compile_sampler: bool | None = None) -> None:
        """Compile the sampler, and on CUDA record the step; call once, before the first request.

        `compile_sampler` None: on CUDA. A compiled sampler or a recorded step is used only if it
        draws the codes of the plain step; the log says why it is not.
        """
        cuda = self.device.type == "cuda"
        if compile_sampler is None:
            compile_sampler = cuda
        if not cuda and not compile_sampler:
            return
        plain = self._try(self._step)
        if compile_sampler:
            self._use_if_same(plain, compile_advance())
        if cuda:
            self.capture()
            assert self._graph is not None
            if not plain.agrees(self._try(self._graph.replay)):
                log.error("the recorded step draws other codes: steps are launched one by one")
                self._graph = None

    def admit(self, sequence: Sequence) -> DeviceTimer:
        """Prefill the sequence's prompt into its slot; returns the timer of the prefill.

        The prefix is always prefilled apart from the suffix, so that a cached prefix changes
        the duration and no code.
        """
        timer = DeviceTimer(self.device)
        prompt, slot = sequence.prompt, sequence.slot
        prefix_length = prompt.prefix_length
        with self._on_device():
            slot_cache = self.cache[:, slot]
            cached = self.prefixes.get(prompt.prefix_key)
            if cached is None:
                self.decoder.prefill(self._upload_parts(prompt.prefix), 0, slot_cache)
                self.prefixes.put(prompt.prefix_key, slot_cache[:, :prefix_length])
            else:
                slot_cache[:, :prefix_length] = cached
            self.decoder.prefill(self._upload_parts(prompt.suffix), prefix_length, slot_cache)
            self.state.admit(
                slot,
                prompt_length=len(prompt.ids),
                max_steps=sequence.max_steps,
                sampling=sequence.sampling,
                context_codes=prompt.context_codes(MAX_RAS_WINDOW - 1),
            )
        timer.stop()
        return timer

    def release(self, slot: int) -> None:
        """Empty `slot` until another sequence is admitted to it."""
        with self._on_device():
            self.state.release(slot)

    def run(self, sequences: Iterable[Sequence], steps: int) -> LaunchedSteps:
        """Launch `steps` steps of every slot, for the `sequences` that now hold the slots."""
        with self._on_device():
            for _ in range(steps):
                if self._graph is None:
                    self._step()
                else:
                    self._graph.replay()
            return LaunchedSteps(tuple(sequences), HostCopy(self.state.first_end))

    def stream(self, sequence: Sequence) -> HostCopy:
        """The codes of a finished sequence, `[steps, 8]`."""
        with self._on_device():
            return HostCopy(self.state.stream[sequence.slot, : sequence.steps_needed])

    def capture(self) -> None:
        """Record the step as a CUDA graph; call once, before the first request.

        Launching a step's hundreds of small kernels one by one takes longer than running them.
        One graph serves every step: its shapes are fixed, and the kernels read each slot's length
        from the device.
        """
        with self._on_device():
            for _ in range(3):  # libraries choose and load their kernels before the recording
                self._step()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._step()
        self._graph = graph

    def clear_prefixes(self) -> None:
        """Free the device memory of all cached prefixes."""
        self.prefixes.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Inside this context work is queued in the runner's own stream, and no gradients are kept."""
        stream = torch.cuda.stream(self._stream) if self._stream else nullcontext()
        with torch.inference_mode(), stream:
            yield

    def _try(self, step: Callable[[], None]) -> Trial:
        with self._on_device():
            return try_step(self.state, step)

    def _use_if_same(self, plain: Trial, advance: Advance) -> None:
        """Use `advance` in every step from now on, if it runs and draws the codes of the trial `plain`."""
        try:
            compiled = self._try(partial(self._step, advance))
        except torch.AcceleratorError:
            raise  # the device itself failed
        except Exception as error:  # noqa: BLE001 -- compilers raise exceptions of many kinds
            log.warning("the sampler runs uncompiled, some 0.4 ms a step slower: %s", one_line(error))
            return
        if plain.agrees(compiled):
            self._advance = advance
        else:
            log.error("the compiled sampler draws other codes: the sampler runs uncompiled")

    def _step(self, advance: Advance | None = None) -> None:
        """One step of every slot; no shape, branch or wait depends on a tensor's values."""
        state = self.state
        active = state.active()
        position = state.prompt_end + state.step
        # An inactive slot's result is discarded: it reads one token of its cache instead of all.
        lengths = torch.where(active, position + 1, 1).to(torch.int32)
        logits = self.decoder.decode(state.last_codes, position, lengths, self.cache, self.attention.attend)
        (advance or self._advance)(state, logits, active)

    def _upload_parts(self, parts: Iterable[PromptPart]) -> list[PrefillPart]:
        return [
            PrefillPart(
                self._upload(part.ids if part.stream is None else part.stream), is_audio=part.is_audio
            )
            for part in parts
        ]

    def _upload(self, array: NDArray[Any]) -> torch.Tensor:
        return upload(array.astype(np.int64), self.device)
