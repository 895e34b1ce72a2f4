"""Bad audio, as a worker may post it as a job's result: samples that are wrong, or described wrongly."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from support.worker import encoded, inline

RATE = 24_000  # Hz
FRAME = 960  # samples

Output = dict[str, Any]


def with_waveform(
    change: Callable[[NDArray[np.float32]], NDArray[Any]], **fields: Any
) -> Callable[[Output], Output]:
    """Changes an output's waveform, and its length fields with it; `fields` replace others."""

    def changed(output: Output) -> Output:
        waveform = change(_waveform(output))
        length = {"frames": len(waveform) // FRAME, "duration": len(waveform) / RATE}
        audio = inline(encoded(waveform, RATE, "WAV", "FLOAT"))
        return output | length | {"audio_base64": audio} | fields

    return changed


def result_with(change: Callable[[Output], Output]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Changes the output within the result that a worker posts."""
    return lambda result: result | {"output": change(result["output"])}


def _waveform(output: Output) -> NDArray[np.float32]:
    waveform, _ = soundfile.read(io.BytesIO(base64.b64decode(output["audio_base64"])), dtype="float32")
    samples: NDArray[np.float32] = waveform
    return samples


def _at_16_khz(output: Output) -> Output:
    """The same samples, written and described as 16 kHz."""
    audio = inline(encoded(_waveform(output), 16_000, "FLAC"))
    return output | {"audio_base64": audio, "sample_rate": 16_000}


def _with_nan(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    changed = waveform.copy()
    changed[1_000:1_010] = np.nan
    return changed


@dataclass(frozen=True)
class BadAudio:
    """How an output is made bad, and a part of the reason for which it is refused."""

    change: Callable[[Output], Output]
    reason: str


BAD_AUDIO = {
    "wrong rate": BadAudio(_at_16_khz, "16000 Hz"),
    "wrong length": BadAudio(with_waveform(lambda wave: wave[: len(wave) // 2], frames=117), "length"),
    "not audio": BadAudio(
        lambda output: output | {"audio_base64": inline(b"never was audio")}, "not usable audio"
    ),
    "no base64": BadAudio(lambda output: output | {"audio_base64": "*"}, "audio_base64"),
    "not a number": BadAudio(with_waveform(_with_nan), "not finite"),
    "silence": BadAudio(with_waveform(np.zeros_like), "silent"),
    "clipping": BadAudio(with_waveform(lambda wave: np.clip(wave * 30, -1, 1)), "clipping"),
    "too short": BadAudio(with_waveform(lambda wave: wave[: 10 * FRAME]), "too-short"),
    "too long": BadAudio(with_waveform(lambda wave: np.tile(wave, 6)), "too-long"),
    "cut at the cap": BadAudio(lambda output: output | {"finish_reason": "length"}, "cut at the cap"),
    "another seed's": BadAudio(lambda output: output | {"seed": 1}, "used seed 1"),
    "no clip at all": BadAudio(lambda _: {"hello": "world"}, "not a clip"),
}
