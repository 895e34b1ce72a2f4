"""The one room of the pipeline that reads and writes encoded audio.

A waveform is mono float32, shape [samples], nominally within [-1, 1].
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from narration.errors import BadAudio

Waveform = NDArray[np.float32]

CONTAINERS = frozenset({"WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF"})
MIN_SAMPLE_RATE = 8_000  # Hz; below it is no speech worth narrating with
MAX_SAMPLE_RATE = 192_000  # Hz
MAX_CHANNELS = 8

_BLOCK_FRAMES = 65_536  # decoded at a time
_LENGTH_TOLERANCE = 2_304  # samples; an MP3 may promise up to two frames more than it holds
_STREAMED_SIZE = 0xFFFFFFFF  # what a WAV written to a pipe says of its length


def decode(data: bytes, *, max_seconds: float = 600) -> tuple[Waveform, int]:
    """Decode an audio file held in memory: its mono fold and its own sample rate in Hz.

    Channels are averaged. Raises `BadAudio` for bytes that are no audio in a known container,
    for audio that is truncated, empty, longer than `max_seconds`, not finite, or of a rate or
    channel count no recording has. Length is checked in the header before anything is decoded,
    and no more is decoded than the header promises, so that a small file cannot fill the memory.
    """
    if _truncated(data):
        raise BadAudio("audio is truncated: its container says more bytes follow")
    try:
        with soundfile.SoundFile(_Memory(data)) as source:
            rate, promised = int(source.samplerate), int(source.frames)
            _refuse_header(source.format, rate, int(source.channels))
            if promised > max_seconds * rate:
                raise BadAudio(f"audio of {promised / rate:.0f} s is over the limit of {max_seconds:g} s")
            waveform = _read(source)
    except soundfile.LibsndfileError as error:
        raise BadAudio(f"not audio that can be decoded: {error.error_string.strip()[:200]}") from None
    if waveform.size < promised - _LENGTH_TOLERANCE:
        raise BadAudio(f"audio is truncated: {waveform.size} of {promised} samples decode")
    if waveform.size == 0:
        raise BadAudio("audio holds no samples")
    if not np.isfinite(waveform).all():
        raise BadAudio("audio holds samples that are not finite numbers")
    return waveform, rate


def encode_flac(waveform: Waveform, sample_rate: int) -> bytes:
    """Encode as 16-bit FLAC; samples beyond [-1, 1] are clipped, never wrapped.

    The same waveform gives the same bytes under one libsndfile, and what `decode` gave of a
    16-bit file encodes to the same samples again. Raises `BadAudio` for nothing and for NaN.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise BadAudio(f"a clip has one channel and some samples, not the shape {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise BadAudio("audio holds samples that are not finite numbers")
    pcm = np.clip(np.rint(waveform.astype(np.float64) * 32_768), -32_768, 32_767).astype(np.int16)
    target = io.BytesIO()
    soundfile.write(target, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    return target.getvalue()


def resample(waveform: Waveform, rate: int, target_rate: int) -> Waveform:
    """Resample without moving anything in time: sample n lands on n * target_rate / rate."""
    if rate == target_rate:
        return waveform
    resampled: Waveform = soxr.resample(waveform, rate, target_rate, quality="HQ")
    return resampled


def audio_sha256(data: bytes) -> str:
    """SHA-256 of encoded audio, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


class _Memory(io.BytesIO):
    """Bytes as a file in which seeking before the start stays at the start.

    libsndfile seeks there in malformed files, from a callback that can only print an exception.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(max(0, origin + offset))


def _read(source: soundfile.SoundFile) -> Waveform:
    """Fold to mono block by block: eight channels are never in memory at once."""
    blocks: list[Waveform] = []
    while len(block := source.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        blocks.append(block.mean(axis=1, dtype=np.float32))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _refuse_header(container: str, rate: int, channels: int) -> None:
    if container not in CONTAINERS:
        raise BadAudio(f"a {container} file is not accepted: give WAV, FLAC, MP3, OGG or AIFF")
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise BadAudio(f"a sample rate of {rate} Hz is outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}")
    if channels > MAX_CHANNELS:
        raise BadAudio(f"{channels} channels are more than the {MAX_CHANNELS} a recording may have")


def _truncated(data: bytes) -> bool:
    """Whether the container announces bytes that are missing.

    libsndfile shortens such WAV, AIFF and OGG files without a word; it notices FLAC itself,
    and MP3 shows in the sample count.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] == b"data":
                return size != _STREAMED_SIZE and at + 8 + size > len(data)
            at += 8 + size + size % 2
        return True
    if data[:4] == b"FORM":
        return 8 + int.from_bytes(data[4:8], "big") > len(data)
    if data[:4] == b"OggS":
        page = data.rfind(b"OggS")
        table = data[page + 27 : page + 27 + (data[page + 26] if page + 26 < len(data) else 0)]
        last = bool(data[page + 5 : page + 6] and data[page + 5] & 4)
        return not last or page + 27 + len(table) + sum(table) > len(data)
    return False
