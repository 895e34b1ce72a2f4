"""Encoded audio files for tests, by libsndfile and ffmpeg, with headers as real programs write them."""

from __future__ import annotations

import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from narration.audio.ffmpeg import find_ffmpeg
from support.audio import RATE

ID3V1 = b"TAG" + b"A title".ljust(125, b"\0")
ID3V2 = b"ID3\x04\0\0\0\0\1\0" + bytes(128)  # a size of 128, seven bits to a byte


def encoded(
    waveform: NDArray[np.float32],
    container: str = "WAV",
    subtype: str | None = None,
    *,
    rate: int = RATE,
    endian: str = "FILE",
) -> bytes:
    """`waveform`, shape [samples] or [samples, channels], as a file of libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


def by_ffmpeg(waveform: NDArray[np.float32], *options: str, suffix: str = "") -> bytes:
    """`waveform`, mono at 24 kHz, as a file that ffmpeg writes by `options`; to a pipe without a `suffix`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        done = subprocess.run(
            [
                *(str(find_ffmpeg()), "-hide_banner", "-loglevel", "error"),
                *("-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:0", *options),
                str(path) if suffix else "pipe:1",
            ],
            input=waveform.tobytes(),
            capture_output=True,
            check=True,
        )
        return path.read_bytes() if suffix else done.stdout


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """A WAV whose header announces `riff` bytes of file and `data` bytes of audio."""
    at = wav.index(b"data") + 4
    return wav[:4] + riff.to_bytes(4, "little") + wav[8:at] + data.to_bytes(4, "little") + wav[at + 4 :]


def with_open_length(flac: bytes) -> bytes:
    """A FLAC file whose header leaves the number of samples open, 36 bits of zero."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


def with_chunk(wav: bytes, content: bytes, *, padded: bool) -> bytes:
    """A WAV with a LIST chunk before its format, of odd size where `content` is."""
    chunk = b"LIST" + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2 if padded else 0)
    return wav[:4] + (len(wav) - 8 + len(chunk)).to_bytes(4, "little") + wav[8:12] + chunk + wav[12:]
