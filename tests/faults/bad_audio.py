"""Bad audio as a worker might answer it: what the samples, or what is said of them, can be."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from support.worker import encoded, inline

RATE = 24_000
FRAME = 960  # samples

Output = dict[str, Any]


def of_waveform(
    change: Callable[[NDArray[np.float32]], NDArray[Any]], **fields: Any
) -> Callable[[Output], Output]:
    """An answer with the changed waveform in it, told to be as long as it is."""

    def altered(output: Output) -> Output:
        waveform, _ = soundfile.read(io.BytesIO(base64.b64decode(output["audio_base64"])), dtype="float32")
        changed = change(waveform)
        audio = encoded(changed, RATE, "WAV", "FLOAT")
        told = {"frames": len(changed) // FRAME, "duration": len(changed) / RATE}
        return output | told | {"audio_base64": inline(audio)} | fields

    return altered


def at_16_khz(output: Output) -> Output:
    """The same samples, told and written as 16 kHz."""
    waveform, _ = soundfile.read(io.BytesIO(base64.b64decode(output["audio_base64"])), dtype="float32")
    return output | {"audio_base64": inline(encoded(waveform, 16_000, "FLAC")), "sample_rate": 16_000}


def with_holes(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Some samples are no numbers."""
    holed = waveform.copy()
    holed[1_000:1_010] = np.nan
    return holed


BAD: dict[str, tuple[Callable[[Output], Output], str]] = {
    "wrong rate": (at_16_khz, "16000 Hz"),
    "wrong length": (of_waveform(lambda wave: wave[: len(wave) // 2], frames=117), "length"),
    "not audio": (lambda output: output | {"audio_base64": inline(b"never was audio")}, "not usable audio"),
    "no base64": (lambda output: output | {"audio_base64": "*"}, "audio_base64"),
    "not a number": (of_waveform(with_holes), "not finite"),
    "silence": (of_waveform(np.zeros_like), "silent"),
    "clipping": (of_waveform(lambda wave: np.clip(wave * 30, -1, 1)), "clipping"),
    "too short": (of_waveform(lambda wave: wave[: 10 * FRAME]), "too-short"),
    "too long": (of_waveform(lambda wave: np.tile(wave, 6)), "too-long"),
    "cut at the cap": (lambda output: output | {"finish_reason": "length"}, "cut at the cap"),
    "another seed's": (lambda output: output | {"seed": 1}, "used seed 1"),
    "no clip at all": (lambda _: {"hello": "world"}, "not a clip"),
}


def posts(change: Callable[[Output], Output]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What is posted as a job's result, its output changed."""
    return lambda posted: posted | {"output": change(posted["output"])}
