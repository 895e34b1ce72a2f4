"""Audio in memory: files decoded and encoded, loudness, shape, quality, and a waveform's picture.

`files` is re-exported here, since it is what most callers need. A waveform is mono float32, shape
[samples], nominally within [-1, 1].
"""

from narration.audio.files import (
    Waveform,
    audio_sha256,
    decode,
    encode_flac,
    resample,
)

__all__ = [
    "Waveform",
    "audio_sha256",
    "decode",
    "encode_flac",
    "resample",
]
