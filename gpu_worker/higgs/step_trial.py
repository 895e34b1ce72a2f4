"""Step trial: whether a decode step that is compiled or recorded draws the plain step's codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from gpu_worker.higgs.delay_pattern import CODEBOOKS, Stream
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.slot_state import SlotState

STEPS = 16
"""Steps of a trial."""

_PROMPT_TOKENS = 4

GREEDY = Sampling(temperature=0, top_k=1, top_p=1, seed=0, ras_window=0, ras_repeats=0)
SAMPLED = Sampling(temperature=0.9, top_k=80, top_p=0.95, seed=0, ras_window=7, ras_repeats=2)

Advance = Callable[[SlotState, torch.Tensor, torch.Tensor], None]
"""`SlotState.advance`, or a function that changes the state as it does."""


def compile_advance(backend: str = "inductor") -> Advance:
    """`SlotState.advance` compiled: its 230 operations become about 20 kernels.

    It is compiled at its first call, which raises if the compiler or its C compiler fails.
    """
    compiled: Advance = torch.compile(SlotState.advance, dynamic=False, fullgraph=True, backend=backend)
    return compiled


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The codes `[STEPS, 8]` that each slot draws when it is greedy, and when it samples."""

    greedy: list[Stream]
    sampled: list[Stream]

    def agrees(self, other: Trial) -> bool:
        """Whether every slot draws the same codes when greedy, and seven of eight when they sample.

        A compiled sum rounds otherwise, and once in some hundred thousand draws that is another
        code, after which the rest of the stream differs. A wrong kernel shows in nearly every slot.
        """
        greedy, sampled = _differing(self.greedy, other.greedy), _differing(self.sampled, other.sampled)
        return greedy == 0 and sampled * 8 <= len(self.sampled)


def try_step(state: SlotState, step: Callable[[], None]) -> Trial:
    """Run `step` from the same state in every trial; all slots must be empty, and are again."""
    return Trial(*(_streams(state, step, sampling) for sampling in (GREEDY, SAMPLED)))


def _streams(state: SlotState, step: Callable[[], None], sampling: Sampling) -> list[Stream]:
    slots = len(state.step)
    nothing = np.empty((0, CODEBOOKS), dtype=np.int64)
    for slot in range(slots):
        state.admit(
            slot,
            prompt_length=_PROMPT_TOKENS,
            max_steps=STEPS + 1,
            sampling=replace(sampling, seed=slot),
            context_codes=nothing,
        )
    for _ in range(STEPS):
        step()
    streams = state.stream[:, 1 : STEPS + 1].cpu().numpy().copy()
    for slot in range(slots):
        state.release(slot)
    return list(streams)


def _differing(some: list[Stream], others: list[Stream]) -> int:
    return sum(not np.array_equal(one, other) for one, other in zip(some, others, strict=True))
