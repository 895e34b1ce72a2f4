"""Whether a recording can be a voice sample: the check that `narrate voice add` and the worker share."""

from __future__ import annotations

import numpy as np

from narration.audio.files import AudioTooLong, EmptyAudio, Waveform, decode
from narration.contract import MAX_SAMPLE_BYTES, MAX_SAMPLE_SECONDS, MIN_SAMPLE_SECONDS, ErrorCode
from narration.errors import BadAudio

SILENT_DBFS = -60.0
SILENT_PEAK = 10 ** (SILENT_DBFS / 20)  # a recording of a lower peak holds no voice


class UnusableSample(BadAudio):
    """A recording that no voice can be cloned from; `code` is the contract's name for the reason."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def decode_voice_sample(data: bytes) -> tuple[Waveform, int]:
    """Decode an encoded voice sample to mono samples, as loud as recorded, and its own sample rate in Hz.

    Raises `UnusableSample` for more than 20 MB, for bytes that are no intact audio, for less than 1 s or more
    than 30 s, and for silence.
    """
    if len(data) > MAX_SAMPLE_BYTES:
        size, limit = len(data) / 1_000_000, MAX_SAMPLE_BYTES / 1_000_000
        message = f"the voice sample has {size:.1f} MB, over the limit of {limit:g} MB"
        raise UnusableSample(ErrorCode.SAMPLE_TOO_LARGE, message)
    try:
        waveform, rate = decode(data, max_seconds=MAX_SAMPLE_SECONDS)
    except AudioTooLong as error:
        message = f"the voice sample is too long: {error.message}"
        raise UnusableSample(ErrorCode.SAMPLE_TOO_LONG, message) from None
    except EmptyAudio:
        message = f"the voice sample has 0 s, under {MIN_SAMPLE_SECONDS:g} s"
        raise UnusableSample(ErrorCode.SAMPLE_TOO_SHORT, message) from None
    except BadAudio as error:
        message = f"the voice sample is unusable: {error.message}"
        raise UnusableSample(ErrorCode.SAMPLE_NOT_AUDIO, message) from None
    seconds = waveform.size / rate
    if seconds < MIN_SAMPLE_SECONDS:
        message = f"the voice sample has {seconds:.2f} s, under {MIN_SAMPLE_SECONDS:g} s"
        raise UnusableSample(ErrorCode.SAMPLE_TOO_SHORT, message)
    if float(np.abs(waveform).max()) < SILENT_PEAK:
        message = f"the voice sample is silent: its peak is under {SILENT_DBFS:g} dBFS"
        raise UnusableSample(ErrorCode.SAMPLE_SILENT, message)
    return waveform, rate
