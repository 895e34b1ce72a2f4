"""Delay pattern: codebook k lags k steps behind codebook 0, between a begin and an end code.

*Codes* [8, frames] are the codec's; a *stream* [steps, 8] is what the model reads and writes.
Step 0 is all begin codes, so codebook k of frame c is at step `c + 1 + k`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

CODEBOOKS = 8
BEGIN = 1024
END = 1025
CODEBOOK_SIZE = 1026
"""Codes that a codebook has in the model: the codec's 1024, then `BEGIN` and `END`."""

STEPS_AFTER_END = CODEBOOKS - 1
"""Steps after the first end code until every frame before it is complete."""

MIN_STEPS = CODEBOOKS + 1
"""Steps that make one complete frame: step 0, and one for each codebook."""

Codes = NDArray[np.int16]
Stream = NDArray[np.int16]


def delay(codes: Codes) -> Stream:
    """The stream of a finished clip, `[frames + 9, 8]`, from its codes `[8, frames]`."""
    assert len(codes) == CODEBOOKS, codes.shape
    frames = codes.shape[1]
    stream = np.full((frames + 2 + STEPS_AFTER_END, CODEBOOKS), END, dtype=np.int16)
    for codebook in range(CODEBOOKS):
        stream[: codebook + 1, codebook] = BEGIN
        stream[codebook + 1 : codebook + 1 + frames, codebook] = codes[codebook]
    return stream


def undelay(stream: Stream) -> tuple[Codes, bool]:
    """Codes `[8, frames]` of a stream `[steps, 8]`, and whether it holds an end code.

    The codes end before the first frame with a begin or end code in any codebook. transformers
    keeps that frame and clips its end codes to codec codes, which is 40 ms of noise.
    """
    complete = max(0, len(stream) - MIN_STEPS + 1)
    # One frame more than is complete: an end code in it shows that the clip is not cut short.
    frames = np.full((CODEBOOKS, complete + 1), BEGIN, dtype=np.int16)
    for codebook in range(CODEBOOKS):
        part = stream[codebook + 1 : codebook + complete + 2, codebook]
        frames[codebook, : len(part)] = part
    cut = int((frames >= BEGIN).any(axis=0).argmax())
    ended = bool((frames == END).any())
    return frames[:, :cut].copy(), ended


def force_pattern(codes: torch.Tensor, step: torch.Tensor, first_end: torch.Tensor) -> torch.Tensor:
    """`codes` [slots, 8] of each slot's `step` [slots], with the codes that the pattern dictates.

    A codebook says `BEGIN` until its first step. `first_end` [slots] is the step of the slot's
    first end code, or a step beyond any; after it the codebooks say `END`, one more at each step,
    beginning with codebook 0.
    """
    codebook = torch.arange(CODEBOOKS, device=codes.device)
    not_begun = codebook >= step[:, None]
    ended = codebook < (step - first_end)[:, None]
    return codes.masked_fill(not_begun, BEGIN).masked_fill(ended, END)
