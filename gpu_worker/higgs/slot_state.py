"""Slot state: what a decode step reads and writes for every slot, as tensors updated in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOKS, END, STEPS_AFTER_END, force_pattern
from gpu_worker.higgs.device_queue import upload
from gpu_worker.higgs.sampler import Sampling, SlotSampling, sample
from narration.contract import MAX_RAS_WINDOW

NO_END = 1 << 30
"""Value of `first_end` before the first end code: a step that no slot reaches."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotState:
    """State of all slots. A slot whose `step` has reached its last one takes no further steps."""

    prompt_end: torch.Tensor  # [slots]: position of the prompt's last token; step s is at prompt_end + s
    step: torch.Tensor  # [slots]: the step that comes next
    max_steps: torch.Tensor  # [slots]: 0 for an empty slot
    first_end: torch.Tensor  # [slots]: step of the first end code, or NO_END
    last_codes: torch.Tensor  # [slots, 8]: codes of the step before
    history: (
        torch.Tensor
    )  # [slots, MAX_RAS_WINDOW, 8]: ring of the latest codes, step s at s modulo its length
    stream: torch.Tensor  # [slots, slot_length, 8] int16: all codes since step 0
    sampling: SlotSampling
    slot_index: torch.Tensor  # [slots]: 0, 1, ..

    @classmethod
    def empty(cls, slots: int, slot_length: int, device: torch.device) -> SlotState:
        """`slots` empty slots, each for `slot_length` tokens."""

        def filled(value: int, *shape: int) -> torch.Tensor:
            return torch.full(shape, value, dtype=torch.int64, device=device)

        return cls(
            prompt_end=filled(0, slots),
            step=filled(0, slots),
            max_steps=filled(0, slots),
            first_end=filled(NO_END, slots),
            last_codes=filled(BEGIN, slots, CODEBOOKS),
            history=filled(BEGIN, slots, MAX_RAS_WINDOW, CODEBOOKS),
            stream=torch.full((slots, slot_length, CODEBOOKS), BEGIN, dtype=torch.int16, device=device),
            sampling=SlotSampling.empty(slots, device),
            slot_index=torch.arange(slots, device=device),
        )

    def admit(
        self,
        slot: int,
        *,
        prompt_length: int,
        max_steps: int,
        sampling: Sampling,
        context_codes: NDArray[np.integer[Any]],
    ) -> None:
        """Start a sequence in `slot`: its prompt of `prompt_length` tokens and step 0 are done.

        `context_codes` [n, 8], n below `MAX_RAS_WINDOW`, are the last codes of the prompt's audio:
        repetition-aware sampling counts them as the n steps before step 0. Everything goes to the
        device in one upload, since `tensor[slot] = number` waits for a CUDA device each time.
        """
        # Steps -n to -1 are at the end of the ring, step 0 at its start.
        ring = np.full((MAX_RAS_WINDOW, CODEBOOKS), BEGIN, dtype=np.int64)
        ring[MAX_RAS_WINDOW - len(context_codes) :] = context_codes
        numbers = np.array([prompt_length - 1, max_steps, *sampling.integers], dtype=np.int64)
        fractions = np.array(sampling.fractions, dtype=np.float64).view(np.int64)
        row = upload(np.concatenate([numbers, fractions, ring.reshape(-1)]), self.step.device)
        self.prompt_end[slot].copy_(row[0])
        self.max_steps[slot].copy_(row[1])
        stop = len(numbers) + len(fractions)
        self.sampling.write(slot, row[2 : len(numbers)], row[len(numbers) : stop].view(torch.float64))
        self.history[slot].copy_(row[stop:].view(MAX_RAS_WINDOW, CODEBOOKS))
        self.step[slot].fill_(1)
        self.first_end[slot].fill_(NO_END)
        self.last_codes[slot].fill_(BEGIN)
        self.stream[slot, 0].fill_(BEGIN)

    def release(self, slot: int) -> None:
        """Empty `slot`: it takes no further steps."""
        self.max_steps[slot].fill_(0)

    def active(self) -> torch.Tensor:
        """Which slots have a step to make, bool `[slots]`."""
        return self.step < torch.minimum(self.max_steps, self.first_end + STEPS_AFTER_END)

    def advance(self, logits: torch.Tensor, active: torch.Tensor) -> None:
        """Sample one step of every slot from `logits` [slots, 8, 1026]; only `active` slots advance."""
        step = self.step
        codes = force_pattern(sample(logits, self.sampling, step, self.history), step, self.first_end)
        codes = torch.where(active[:, None], codes, self.last_codes)
        ended = active & (codes == END).any(dim=-1) & (self.first_end == NO_END)
        self.first_end.copy_(torch.where(ended, step, self.first_end))
        self.last_codes.copy_(codes)
        # An inactive slot writes at its next step too, which is never read.
        self.history.index_put_((self.slot_index, step % MAX_RAS_WINDOW), codes)
        self.stream.index_put_((self.slot_index, step), codes.to(torch.int16))
        self.step.add_(active)
