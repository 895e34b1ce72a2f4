"""The one function of torchaudio that the codec calls, so that torchaudio need not be installed.

transformers' codec imports torchaudio when it is imported, for `functional.resample` alone
(24 kHz to HuBERT's 16 kHz). torchaudio's wheels end at 2.11, are compiled against that torch
and CUDA only, and fail to import beside another: so the worker brings the function itself,
the same on every machine, and its codes never depend on which torchaudio lay around.
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

ZERO_CROSSINGS = 6  # of the sinc, on either side
ROLLOFF = 0.99  # cut-off as a share of the lower Nyquist frequency


def resample_like_torchaudio(waveform: Tensor, orig_freq: int, new_freq: int) -> Tensor:
    """Resample `[..., samples]` from `orig_freq` to `new_freq` Hz by a Hann-windowed sinc.

    Returns `[..., ceil(samples * new_freq / orig_freq)]`. The filter is the default of
    torchaudio's function of the same name, so the codec hears what it was published with.
    """
    common = math.gcd(orig_freq, new_freq)
    down, up = orig_freq // common, new_freq // common
    if down == up:
        return waveform
    cutoff = min(down, up) * ROLLOFF
    reach = math.ceil(ZERO_CROSSINGS * down / cutoff)  # input samples a tap looks back or ahead

    # Output sample n lies at input time n * down / up: `up` filters, one per phase, step by `down`.
    inputs = torch.arange(-reach, reach + down, dtype=torch.float64) / down
    phases = torch.arange(up, dtype=torch.float64)[:, None] / up
    times = ((inputs - phases) * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = torch.cos(times * math.pi / ZERO_CROSSINGS / 2) ** 2
    filters = (torch.sinc(times) * window * cutoff / down).to(waveform)  # [up, taps]

    rows = waveform.reshape(-1, 1, waveform.shape[-1])
    padded = functional.pad(rows, (reach, reach + down))
    phased = functional.conv1d(padded, filters[:, None], stride=down)  # [rows, up, steps]
    length = -(-waveform.shape[-1] * up // down)
    return phased.transpose(1, 2).reshape(*waveform.shape[:-1], -1)[..., :length]


@contextmanager
def in_place_of_torchaudio() -> Iterator[None]:
    """While open, `import torchaudio` gives a module that holds only `functional.resample`."""
    stand_in = ModuleType("torchaudio")
    stand_in.__spec__ = ModuleSpec("torchaudio", loader=None)
    stand_in.functional = ModuleType("torchaudio.functional")  # type: ignore[attr-defined]  # made here
    stand_in.functional.resample = resample_like_torchaudio  # a module's attributes are dynamic
    installed = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = stand_in
    try:
        yield
    finally:
        if installed is None:
            del sys.modules["torchaudio"]
        else:
            sys.modules["torchaudio"] = installed
