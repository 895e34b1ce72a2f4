"""Encoded audio to waveforms and back: the one place that calls libsndfile and soxr, for pipeline and worker.

A waveform is mono float32, shape [samples], nominally within [-1, 1].
"""

from __future__ import annotations

import hashlib
import io
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from narration.audio.containers import prepare
from narration.contract import SAMPLE_RATE
from narration.errors import BadAudio

Waveform = NDArray[np.float32]

CONTAINERS = frozenset({"WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF"})  # libsndfile's names
MIN_SAMPLE_RATE = 8_000  # Hz; a lower rate does not carry speech
MAX_SAMPLE_RATE = 192_000  # Hz
MAX_CHANNELS = 8

_BLOCK_FRAMES = 65_536  # decoded at a time
_LENGTH_TOLERANCE = 2_304  # frames; the header of an MP3 may count two packets that do not decode
_MAX_AMPLITUDE = 2.0**32  # of full scale; float files may hold integers of 32 bits, and no more
_OPEN_LENGTH = 1 << 62  # frames; libsndfile reports more where a FLAC leaves its length open


class UnknownFormat(BadAudio):
    """Bytes in no container and codec that the worker decodes; ffmpeg may decode them."""


class AudioTooLong(BadAudio):
    """Audio that lasts longer than allowed."""


class EmptyAudio(BadAudio):
    """An intact audio file without samples."""


def decode(data: bytes, *, max_seconds: float = 600) -> tuple[Waveform, int]:
    """Decode an audio file held in memory to a waveform and its own sample rate in Hz.

    Channels are averaged; float samples beyond full scale are returned as they are. The length is read in
    the header first and counted while decoding, so that a small file cannot fill the memory. Raises
    `UnknownFormat`, `AudioTooLong`, `EmptyAudio`, and `BadAudio` for audio that is truncated, damaged or
    not finite, or that has an unusual sample rate or more than 8 channels.
    """
    data = prepare(data)
    source = _open(data)
    try:
        with source:
            rate = int(source.samplerate)
            _refuse_header(source.format, rate, int(source.channels))
            announced = int(source.frames) if source.frames < _OPEN_LENGTH else None
            limit = int(max_seconds * rate)
            if announced is not None and announced > limit:
                raise AudioTooLong(
                    f"audio of {announced / rate:.2f} s is over the limit of {max_seconds:g} s"
                )
            waveform = _read_mono(source, limit + 1 if announced is None else announced)
    except soundfile.LibsndfileError as error:
        raise BadAudio(f"audio is damaged: {_reason(error)}") from None
    if waveform.size > limit:
        raise AudioTooLong(f"audio is over the limit of {max_seconds:g} s")
    if announced is not None and waveform.size < announced - _LENGTH_TOLERANCE:
        raise BadAudio(f"audio is truncated: {waveform.size} of {announced} samples decode")
    if waveform.size == 0:
        raise EmptyAudio("audio holds no samples")
    if not np.isfinite(waveform).all():
        raise BadAudio("audio holds samples that are not finite numbers")
    if float(np.abs(waveform).max()) > _MAX_AMPLITUDE:
        raise BadAudio(f"audio holds samples of more than {_MAX_AMPLITUDE:.0e} times full scale")
    return waveform, rate


def encode_flac(waveform: Waveform, sample_rate: int) -> bytes:
    """Encode as 16-bit FLAC; samples beyond [-1, 1] are clipped, never wrapped.

    The same waveform gives the same bytes under one version of libsndfile, and a decoded 16-bit file is
    encoded to the same samples again. Raises `BadAudio` for an empty waveform and for NaN.
    """
    return _encode(waveform, sample_rate, "flac", full_scale=32_768)


def encode_clip(waveform: Waveform, container: Literal["wav", "flac"]) -> bytes:
    """Encode the waveform of an engine as 16-bit audio at 24 kHz; clips and raises like `encode_flac`.

    Full scale is 32,767: another value would change the samples of every clip, and so need another model id.
    """
    return _encode(waveform, SAMPLE_RATE, container, full_scale=32_767)


def resample(waveform: Waveform, rate: int, target_rate: int) -> Waveform:
    """Resample without moving anything in time: sample n lands on n * target_rate / rate."""
    if rate == target_rate:
        return waveform
    resampled: Waveform = soxr.resample(waveform, rate, target_rate, quality="HQ")
    return resampled


def within_full_scale(waveform: Waveform) -> Waveform:
    """`waveform`, scaled down as a whole where its peak is over 1."""
    peak = float(np.abs(waveform).max(initial=0))
    return waveform / np.float32(peak) if peak > 1 else waveform


def audio_sha256(data: bytes) -> str:
    """SHA-256 of encoded audio, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


class _Memory(io.BytesIO):
    """Bytes as a file in which seeking before the start stays at the start.

    libsndfile and libmpg123 seek there in malformed files, from a callback that can only print an exception.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(max(0, origin + offset))


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A file read from start to end.

    After each block soundfile seeks to where it is already: an error in a FLAC of open length, and
    in an MP3 a loss of the samples that overlap.
    """

    def seekable(self) -> bool:
        return False


def _open(data: bytes) -> soundfile.SoundFile:
    try:
        return _ForwardFile(_Memory(data))
    except soundfile.LibsndfileError as error:
        if data[:4] == b"fLaC":
            raise BadAudio(f"audio is damaged: {_reason(error)}") from None
        raise UnknownFormat(f"not audio in WAV, FLAC, MP3, OGG or AIFF: {_reason(error)}") from None


def _refuse_header(container: str, rate: int, channels: int) -> None:
    if container not in CONTAINERS:
        raise UnknownFormat(f"audio in {container} is not accepted: give WAV, FLAC, MP3, OGG or AIFF")
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise BadAudio(f"a sample rate of {rate} Hz is outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}")
    if channels > MAX_CHANNELS:
        raise BadAudio(f"audio of {channels} channels has more than {MAX_CHANNELS}")


def _read_mono(source: soundfile.SoundFile, frames: int) -> Waveform:
    """The next `frames` frames, or those there are, each averaged over its channels."""
    blocks: list[Waveform] = []
    while frames > 0:
        block = source.read(min(frames, _BLOCK_FRAMES), dtype="float32", always_2d=True)
        if not len(block):
            break
        with np.errstate(invalid="ignore", over="ignore"):  # the caller refuses what is not finite
            blocks.append(block.mean(axis=1, dtype=np.float32))
        frames -= len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _encode(waveform: Waveform, sample_rate: int, container: str, *, full_scale: int) -> bytes:
    if waveform.ndim != 1 or waveform.size == 0:
        raise BadAudio(f"a clip has one channel and some samples, not the shape {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise BadAudio("audio holds samples that are not finite numbers")
    pcm = np.clip(np.rint(waveform * np.float32(full_scale)), -full_scale, 32_767).astype(np.int16)
    target = io.BytesIO()
    soundfile.write(target, pcm, sample_rate, format=container.upper(), subtype="PCM_16")
    return target.getvalue()


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").strip().rstrip(".")[:200]
