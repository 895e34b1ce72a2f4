"""torchaudio shim: the codec's resampling as torchaudio does it."""

from __future__ import annotations

import math

import pytest
import torch

from gpu_worker.higgs.torchaudio_shim import resample_like_torchaudio

REFERENCE_AT = [0, 1, 2, 17, 100, 333, 500, 501, 650, 668]
REFERENCE = [
    0.0051544,
    0.0805533,
    0.1686793,
    0.816622,
    -0.3826206,
    0.7827331,
    0.2219302,
    -0.2796793,
    0.0059982,
    0.1189057,
]


def test_resampling_equals_torchaudios() -> None:
    """From 24 to 16 kHz a sweep has the samples that torchaudio 2.11's `functional.resample` gave it."""
    time = torch.arange(1_003, dtype=torch.float64) / 24_000
    sweep = torch.sin(2 * math.pi * (200 + 120_000 * time) * time).float()
    resampled = resample_like_torchaudio(sweep[None], 24_000, 16_000)[0]
    assert resampled.shape == (669,)
    assert resampled[REFERENCE_AT].tolist() == pytest.approx(REFERENCE, abs=2e-6)
