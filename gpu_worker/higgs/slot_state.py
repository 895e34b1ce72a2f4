"""Rows: what the decode step knows of every slot, as tensors that are written in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOKS, END, SETTLING_STEPS, force_pattern
from gpu_worker.higgs.sampler import Sampling, SamplingSlots, sample
from narration.contract import MAX_RAS_WINDOW

NEVER = 1 << 30
"""A step that no row reaches: where a row's first end code stands before there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotState:
    """State of `rows` slots. A slot whose `step` has reached its `cap` stands still."""

    base: torch.Tensor  # [rows]: position of the token before the row's step 0
    step: torch.Tensor  # [rows]: the step to be made next
    cap: torch.Tensor  # [rows]: steps allowed; 0 for an empty slot
    first_end: torch.Tensor  # [rows]: step of the first end code
    last: torch.Tensor  # [rows, 8]: the codes of the step before
    history: torch.Tensor  # [rows, MAX_RAS_WINDOW, 8]: ring of the latest codes
    stream: torch.Tensor  # [rows, length, 8] int16: all codes since step 0
    sampling: SamplingSlots
    index: torch.Tensor  # [rows]: 0, 1, ..

    @classmethod
    def empty(cls, rows: int, length: int, device: torch.device) -> SlotState:
        """`rows` free slots of `length` tokens."""

        def filled(value: int, *shape: int) -> torch.Tensor:
            return torch.full(shape, value, dtype=torch.int64, device=device)

        return cls(
            base=filled(0, rows),
            step=filled(0, rows),
            cap=filled(0, rows),
            first_end=filled(NEVER, rows),
            last=filled(BEGIN, rows, CODEBOOKS),
            history=filled(BEGIN, rows, MAX_RAS_WINDOW, CODEBOOKS),
            stream=torch.full((rows, length, CODEBOOKS), BEGIN, dtype=torch.int16, device=device),
            sampling=SamplingSlots.empty(rows, device),
            index=torch.arange(rows, device=device),
        )

    def admit(self, row: int, *, tokens: int, cap: int, sampling: Sampling, heard: torch.Tensor) -> None:
        """Set `row` behind a prompt of `tokens` whose begin step is made.

        `heard` [n, 8] ended the prompt's audio, n below `MAX_RAS_WINDOW`: repetition-aware
        sampling counts it as if it had been spoken just before.
        """
        self.base[row] = tokens - 1
        self.step[row] = 1
        self.cap[row] = cap
        self.first_end[row] = NEVER
        self.last[row] = BEGIN
        self.stream[row, 0] = BEGIN
        self.history[row] = BEGIN
        # Steps -n to -1 stand at the ring's end; the begin code of step 0 at its start.
        self.history[row, MAX_RAS_WINDOW - len(heard) :] = heard
        self.sampling.write(row, sampling)

    def release(self, row: int) -> None:
        """Let `row` stand still."""
        self.cap[row] = 0

    def alive(self) -> torch.Tensor:
        """Which rows still have a step to make, `[rows]`."""
        return self.step < torch.minimum(self.cap, self.first_end + SETTLING_STEPS)

    def advance(self, logits: torch.Tensor, alive: torch.Tensor) -> None:
        """Sample one step of every row from `logits` [rows, 8, 1026] and note it where `alive`."""
        step = self.step
        codes = force_pattern(sample(logits, self.sampling, step, self.history), step, self.first_end)
        codes = torch.where(alive[:, None], codes, self.last)
        ended = alive & (codes == END).any(dim=-1) & (self.first_end == NEVER)
        self.first_end.copy_(torch.where(ended, step, self.first_end))
        self.last.copy_(codes)
        # A row that stands still writes where its next step would: nobody reads that far.
        self.history.index_put_((self.index, step % MAX_RAS_WINDOW), codes)
        self.stream.index_put_((self.index, step), codes.to(torch.int16))
        self.step.add_(alive)
