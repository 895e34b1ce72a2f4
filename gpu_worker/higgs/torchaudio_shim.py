"""Replaces torchaudio's `functional.resample`, so that the codec loads without torchaudio.

transformers' codec module imports torchaudio, of which it calls `functional.resample` alone
(24 kHz to HuBERT's 16 kHz). torchaudio's wheels end at 2.11, are compiled for that torch and
CUDA only, and fail to import with another. With its own function the worker makes the same codes
on every machine, whichever torchaudio is installed there.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

ZERO_CROSSINGS = 6  # of the sinc filter, on each side
ROLLOFF = 0.99  # cut-off as a share of the lower Nyquist frequency


def resample_like_torchaudio(waveform: Tensor, orig_freq: int, new_freq: int) -> Tensor:
    """Resample `waveform` [..., samples] from `orig_freq` to `new_freq` Hz by a Hann-windowed sinc filter.

    Returns `[..., ceil(samples * new_freq / orig_freq)]`. The filter is the default of
    torchaudio 2.11's `functional.resample`, with which the codec was published.
    """
    common = math.gcd(orig_freq, new_freq)
    down, up = orig_freq // common, new_freq // common
    if down == up:
        return waveform
    cutoff = min(down, up) * ROLLOFF
    reach = math.ceil(ZERO_CROSSINGS * down / cutoff)  # input samples on each side of a filter's centre

    # Output sample n is at input time n * down / up: `up` filters, one for each phase, with stride `down`.
    inputs = torch.arange(-reach, reach + down, dtype=torch.float64) / down
    phases = torch.arange(up, dtype=torch.float64)[:, None] / up
    times = ((inputs - phases) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = torch.cos(times * math.pi / ZERO_CROSSINGS / 2) ** 2
    filters = (torch.sinc(times) * window * cutoff / down).to(waveform)  # [up, taps]

    batch = waveform.reshape(-1, 1, waveform.shape[-1])
    padded = functional.pad(batch, (reach, reach + down))
    filtered = functional.conv1d(padded, filters[:, None], stride=down)  # [batch, up, ceil(samples / down)]
    length = -(-waveform.shape[-1] * up // down)
    return filtered.transpose(1, 2).reshape(*waveform.shape[:-1], -1)[..., :length]


@contextmanager
def torchaudio_stub() -> Iterator[None]:
    """Inside this context `import torchaudio` gives a module with `functional.resample` alone."""
    stub = ModuleType("torchaudio")
    stub.__spec__ = ModuleSpec("torchaudio", loader=None)
    stub.functional = ModuleType("torchaudio.functional")  # type: ignore[attr-defined]  # modules take any attribute
    stub.functional.resample = resample_like_torchaudio
    installed = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = stub
    try:
        yield
    finally:
        if installed is None:
            del sys.modules["torchaudio"]
        else:
            sys.modules["torchaudio"] = installed
