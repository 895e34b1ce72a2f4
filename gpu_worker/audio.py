"""The one room of the worker that reads and writes encoded audio."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import soundfile
import soxr

from gpu_worker.engine_protocol import Waveform
from narration.contract import SAMPLE_RATE

CONTAINERS = frozenset({"WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF"})
MIN_RATE = 8_000  # Hz; less is no recording of a voice
MAX_RATE = 192_000  # Hz
MAX_CHANNELS = 8

_BLOCK = 65_536  # frames decoded at a time: all that a lying header can cost beyond the limit
_PROMISE_SLACK = 2_304  # frames; an MP3's header may count two packets that do not decode
_UNKNOWN_BYTES = 0x7FFF_F000  # from here up, the header of a WAV written to a pipe says nothing
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's count for a FLAC written to a pipe


class NotAudio(ValueError):
    """Bytes that are no usable recording; the message says why."""


class TooLong(ValueError):
    """A recording beyond the limit."""


def decode(data: bytes, *, max_seconds: float) -> Waveform:
    """Decode an audio file held in memory to mono at 24 kHz, shape [samples], within [-1, 1].

    Channels are averaged; what exceeds full scale is scaled down whole rather than clipped.
    Length is read in the header first and watched while decoding, so that a small file can
    neither fill the memory nor take long. Raises `NotAudio` and `TooLong`.
    """
    if _ends_early(data):
        raise NotAudio("truncated: its header announces more than there is")
    try:
        with _Forward(_Memory(data)) as source:
            _refuse_oddities(source)
            rate = int(source.samplerate)
            promised = int(source.frames) if source.frames < _UNKNOWN_FRAMES else 0
            limit = int(max_seconds * rate)
            if promised > limit:
                raise TooLong(f"{promised / rate:.1f} s, over {max_seconds:g} s")
            mono = _read_mono(source, limit)
    except soundfile.LibsndfileError as error:
        raise NotAudio(error.error_string.strip()[:200]) from None
    if mono.size > limit:
        raise TooLong(f"over {max_seconds:g} s")
    if mono.size < promised - _PROMISE_SLACK:
        raise NotAudio(f"truncated: {mono.size} of {promised} samples decode")
    if not np.isfinite(mono).all():
        raise NotAudio("holds samples that are not finite numbers")
    return _within_full_scale(resample(mono, rate))


def resample(waveform: Waveform, rate: int) -> Waveform:
    """Mono samples at `rate` Hz, at 24 kHz."""
    if rate == SAMPLE_RATE:
        return waveform
    at_24k: Waveform = soxr.resample(waveform, rate, SAMPLE_RATE, quality="HQ")
    return at_24k


def encode(waveform: Waveform, container: Literal["wav", "flac"]) -> bytes:
    """Encode mono 24 kHz samples as 16-bit audio, clipped to [-1, 1] so that nothing wraps.

    Raises `ValueError` for no samples and for samples that are not finite numbers.
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise ValueError(f"a clip has one channel and some samples, not shape {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise ValueError("the engine's waveform holds samples that are not finite numbers")
    pcm = np.rint(np.clip(waveform, -1, 1) * 32_767).astype(np.int16)
    target = io.BytesIO()
    soundfile.write(target, pcm, SAMPLE_RATE, format=container.upper(), subtype="PCM_16")
    return target.getvalue()


class _Memory(io.BytesIO):
    """Bytes as a file whose start stops a seek that would pass it: libmpg123 makes such seeks."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(max(0, origin + offset))


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """Read from start to end: soundfile's own bookkeeping seeks, which fails in a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False


def _refuse_oddities(source: soundfile.SoundFile) -> None:
    if source.format not in CONTAINERS:
        raise NotAudio(f"{source.format} is not among WAV, FLAC, MP3, OGG and AIFF")
    if not MIN_RATE <= source.samplerate <= MAX_RATE:
        raise NotAudio(f"a sample rate of {source.samplerate} Hz is outside {MIN_RATE} to {MAX_RATE}")
    if source.channels > MAX_CHANNELS:
        raise NotAudio(f"{source.channels} channels are more than {MAX_CHANNELS}")


def _read_mono(source: soundfile.SoundFile, limit: int) -> Waveform:
    """Every frame averaged over its channels, or one block more than `limit` frames."""
    blocks: list[Waveform] = []
    frames = 0
    while frames <= limit:
        block = source.read(_BLOCK, dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(block.mean(axis=1, dtype=np.float32))
        frames += len(block)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _within_full_scale(waveform: Waveform) -> Waveform:
    peak = float(np.abs(waveform).max(initial=0))
    return waveform / np.float32(peak) if peak > 1 else waveform


def _ends_early(data: bytes) -> bool:
    """Whether the container announces bytes that are missing.

    libsndfile shortens such WAV, AIFF and OGG files without a word. It notices FLAC itself,
    and an MP3 decodes to fewer frames than promised.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav_ends_early(data)
    if data[:4] == b"FORM":
        return 8 + int.from_bytes(data[4:8], "big") > len(data)
    if data[:4] == b"OggS":
        return _ogg_ends_early(data)
    return False


def _wav_ends_early(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return size < _UNKNOWN_BYTES and at + 8 + size > len(data)
        at += 8 + size + size % 2
    return True


def _ogg_ends_early(data: bytes) -> bool:
    """Whether the last page is cut or lacks the end-of-stream mark. Layout: RFC 3533, section 6."""
    page = data[data.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    segments = page[27 : 27 + page[26]]
    return not page[5] & 4 or len(page) < 27 + len(segments) + sum(segments)
