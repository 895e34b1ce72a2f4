"""Audio in memory: decoding and encoding, and measures of a waveform.

`files` decodes and encodes, with `containers` for what libsndfile does not notice; `voice_sample` checks a
recording to clone from; the worker's image has these three. `loudness`, `clip_shape`, `quality` and
`waveform_svg` measure and draw a clip, `ffmpeg` runs ffmpeg. A waveform is mono float32, shape [samples],
nominally within [-1, 1].
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
