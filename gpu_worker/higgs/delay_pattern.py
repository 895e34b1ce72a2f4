"""Delay pattern: codebook k of a frame is spoken k steps late, between a begin and an end code.

A *stream* is what the model reads and writes, shape [steps, 8]; *codes* are the codec's, [8, frames].
Column c of the codes has codebook k at step `c + 1 + k`, since step 0 is all begin codes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

CODEBOOKS = 8
BEGIN = 1024
END = 1025
CODEBOOK_SIZE = 1026
"""Codes of one codebook: 1024 of the codec's, then `BEGIN` and `END`."""

SETTLING_STEPS = CODEBOOKS - 1
"""After the first end code, so many more steps complete every frame spoken before it."""

MIN_STEPS = CODEBOOKS + 1
"""Steps that yield one whole frame: the begin step, and one for each codebook."""

Codes = NDArray[np.int16]
Stream = NDArray[np.int16]


def delay(codes: Codes) -> Stream:
    """Codes `[8, frames]` as the stream of a finished clip, `[frames + 9, 8]`."""
    assert len(codes) == CODEBOOKS, codes.shape
    frames = codes.shape[1]
    stream = np.full((frames + 2 + SETTLING_STEPS, CODEBOOKS), END, dtype=np.int16)
    for codebook in range(CODEBOOKS):
        stream[: codebook + 1, codebook] = BEGIN
        stream[codebook + 1 : codebook + 1 + frames, codebook] = codes[codebook]
    return stream


def undelay(stream: Stream) -> tuple[Codes, bool]:
    """Codes `[8, frames]` of a stream `[steps, 8]`, and whether the model ended it itself.

    Cut at the first column that holds a begin or end code in any codebook: transformers keeps the
    end frame and clips it to a code, which is 40 ms of noise.
    """
    complete = max(0, len(stream) - MIN_STEPS + 1)
    # One column more than is complete: an end code there still says that nothing is missing.
    columns = np.full((CODEBOOKS, complete + 1), BEGIN, dtype=np.int16)
    for codebook in range(CODEBOOKS):
        spoken = stream[codebook + 1 : codebook + complete + 2, codebook]
        columns[codebook, : len(spoken)] = spoken
    cut = int((columns >= BEGIN).any(axis=0).argmax())
    ended = bool((columns == END).any())
    return columns[:, :cut].copy(), ended


def force_pattern(tokens: torch.Tensor, step: torch.Tensor, first_end: torch.Tensor) -> torch.Tensor:
    """Overwrite the codes that the pattern dictates at `step`.

    `tokens` [rows, 8]; `step` and `first_end` [rows], the latter the step of the row's first end
    code (beyond any step if there was none). Codebooks that have not begun yet say `BEGIN`;
    after the first end code they close one by one, from codebook 0.
    """
    codebook = torch.arange(CODEBOOKS, device=tokens.device)
    waiting = codebook >= step[:, None]
    closed = codebook < (step - first_end)[:, None]
    return tokens.masked_fill(waiting, BEGIN).masked_fill(closed, END)
