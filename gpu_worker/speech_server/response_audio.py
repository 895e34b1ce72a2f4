"""The audio of a speech server's response as a waveform at 24 kHz, whatever it was encoded as."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message

import numpy as np

from gpu_worker.engine_protocol import Waveform
from gpu_worker.settings import AudioFormat
from narration.audio.files import decode, resample, within_full_scale
from narration.contract import SAMPLE_RATE, ContractError, ErrorCode
from narration.errors import BadAudio

_CONTAINERS = (b"RIFF", b"fLaC", b"OggS", b"ID3")  # the first bytes of files that are not raw PCM
_FULL_SCALE = 32_768


@dataclass(frozen=True, slots=True)
class SpeechResponse:
    """A successful response. `truncated`: the server says that it cut the speech."""

    content: bytes = field(repr=False)
    content_type: str = ""
    truncated: bool = False


def decode_response(response: SpeechResponse, asked: AudioFormat) -> Waveform:
    """Decode WAV, FLAC, MP3 or OGG by its content, at any rate and with up to 8 channels.

    Where `asked` is pcm, content that is none of these is raw 16-bit PCM, little-endian, with the `rate`
    and `channels` of its Content-Type, by default 24 kHz mono as OpenAI's. Raises `ContractError`
    (`engine_failure`, which is retryable) for content that is no intact audio.
    """
    try:
        if asked == "pcm" and not response.content.startswith(_CONTAINERS):
            waveform, rate = _decode_pcm(response)
        else:
            waveform, rate = decode(response.content)
    except BadAudio as error:
        raise ContractError(
            ErrorCode.ENGINE_FAILURE, f"the speech server's audio is unusable: {error.message}"
        ) from None
    return within_full_scale(resample(waveform, rate, SAMPLE_RATE))


def _decode_pcm(response: SpeechResponse) -> tuple[Waveform, int]:
    parameters = Message()
    parameters["Content-Type"] = response.content_type
    rate = _whole_number(parameters.get_param("rate"), SAMPLE_RATE)
    channels = _whole_number(parameters.get_param("channels"), 1)
    if not response.content:
        raise BadAudio("audio holds no samples")
    if len(response.content) % (2 * channels):
        raise BadAudio("audio is truncated: its last sample is not whole")
    samples = np.frombuffer(response.content, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate


def _whole_number(parameter: object, default: int) -> int:
    """A parameter of the Content-Type as a number above 0."""
    text = str(parameter)
    return int(text) if text.isdecimal() and len(text) < 8 and int(text) else default
