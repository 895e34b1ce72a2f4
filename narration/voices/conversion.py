"""Recordings that the worker does not decode (M4A, WebM, WMA and others), converted to FLAC by ffmpeg."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from narration.audio import files
from narration.audio.ffmpeg import find_ffmpeg, run
from narration.audio.files import AudioTooLong, UnknownFormat, Waveform, decode
from narration.contract import MAX_SAMPLE_SECONDS
from narration.errors import BadAudio, MasteringError, VoiceError

TIMEOUT = 60.0  # s; half a minute of audio takes well under one
MAX_DECODED_BYTES = 100_000_000  # 30 s of 8 channels at 96 kHz in 32 bits are 92 MB

_DECODED_SECONDS = MAX_SAMPLE_SECONDS + 1  # so that a recording of more than 30 s is noticed
_MISSING_SECONDS = 0.5  # a container may announce this much more than decodes, its encoder's padding
_SCALED_PEAK = 0.99  # just below the level that counts as clipped
_LOG_BYTES = 65_536  # of ffmpeg's messages

# The containers of recordings that ffmpeg may open; none of them names other files or addresses to read.
_CONTAINERS = "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv"
_STREAM = re.compile(r"^  Stream #0:\d+.*?: (Audio|Video): (.*)$", re.MULTILINE)
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_PICTURE = re.compile(r"\((attached pic|still image|timed thumbnails)\)\s*$")
_CUT = re.compile(r"^\[.*(?:File ended prematurely|moov atom not found)", re.MULTILINE)
_ERROR = re.compile(r"^(?:\[[^\]]*\] )*(.*(?:not found|rror|nvalid|corrupt|prematurely).*)$", re.MULTILINE)

_OTHER_FORMAT = "give WAV, FLAC, MP3, M4A, OGG or WebM"


@dataclass(frozen=True, slots=True)
class _FfmpegResult:
    """ffmpeg's description of a file, and the float WAV that it decoded, None where it failed.

    `seconds` is the duration that the container announces, None where ffmpeg can only estimate one.
    """

    audio_streams: int
    has_video: bool
    is_encrypted: bool
    is_cut: bool
    seconds: float | None
    error: str
    wav: bytes | None


def make_decodable(data: bytes, ffmpeg: str | Path | None = None) -> bytes:
    """Return a recording as the worker decodes it: `data` itself, or FLAC where its format is another one.

    What `data` holds is not judged here. Raises `VoiceError` like `convert_to_flac`.
    """
    try:
        decode(data, max_seconds=MAX_SAMPLE_SECONDS)
    except UnknownFormat:
        return convert_to_flac(data, ffmpeg)
    except BadAudio:
        return data
    return data


def convert_to_flac(data: bytes, ffmpeg: str | Path | None = None) -> bytes:
    """Convert the recording in `data` to mono FLAC of 16 bits at its own sample rate.

    16 bits are 96 dB, more than a lossy format or a room has; 24 would double what is sent with every chunk.
    Channels are averaged, and what exceeds full scale is scaled down. `ffmpeg` is the program to use, None
    for the default one. Raises `VoiceError` for a file that ffmpeg does not decode completely, that
    is encrypted, that has video, several audio streams or none, or that is longer than 30 s.
    """
    try:
        program = find_ffmpeg(ffmpeg)
        with tempfile.TemporaryDirectory(prefix="voice-sample-", ignore_cleanup_errors=True) as folder:
            result = _read(program, data, Path(folder))
    except MasteringError as error:
        message = f"the sample needs ffmpeg to be read: {error.message}"
        raise VoiceError(message, remedy=f"{error.remedy}; or give WAV or FLAC") from None
    except OSError as error:
        message = f"the sample cannot be converted: {error.strerror}"
        raise VoiceError(message, remedy="free some disk space, or give WAV or FLAC") from None
    _refuse_contents(result)
    waveform, rate = _waveform(result)
    if float(abs(waveform).max()) > 1:
        waveform = files.within_full_scale(waveform) * waveform.dtype.type(_SCALED_PEAK)
    return files.encode_flac(waveform, rate)


def _read(program: Path, data: bytes, folder: Path) -> _FfmpegResult:
    source, decoded, log = folder / "sample", folder / "decoded.wav", folder / "messages"
    source.write_bytes(data)
    read_input = [
        *("-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS),
        *("-threads", "1", "-i", f"file:{source}"),
    ]
    write_output = [
        *("-map", "0:a:0", "-t", f"{_DECODED_SECONDS:g}", "-fs", str(MAX_DECODED_BYTES)),
        *("-c:a", "pcm_f32le", "-f", "wav", f"file:{decoded}"),
    ]
    # With -xerror the first error ends ffmpeg, so that a damaged recording is not taken for a shorter one.
    command = [str(program), "-hide_banner", "-nostats", "-xerror", *read_input, *write_output]
    status = run(command, log=log, timeout=TIMEOUT)
    with log.open("rb") as file:
        messages = file.read(_LOG_BYTES).decode("utf-8", "replace")
    streams = _STREAM.findall(messages.partition("\nStream mapping:")[0])
    duration = _DURATION.search(messages)
    error = _ERROR.search(messages)
    return _FfmpegResult(
        audio_streams=sum(kind == "Audio" for kind, _ in streams),
        has_video=any(kind == "Video" and not _PICTURE.search(codec) for kind, codec in streams),
        is_encrypted=(b"sinf" in data and b"schm" in data) or "DRM protected" in messages,
        is_cut=_CUT.search(messages) is not None,
        seconds=_seconds(duration) if duration and "Estimating duration" not in messages else None,
        error=error[1].strip() if error else "",
        wav=decoded.read_bytes() if status == 0 else None,
    )


def _refuse_contents(result: _FfmpegResult) -> None:
    """Raise `VoiceError` for a file that is not one recording of at most 30 s."""
    if result.is_encrypted:
        raise VoiceError("the sample is encrypted (DRM)", remedy="give a recording without copy protection")
    if result.has_video and result.audio_streams:
        raise VoiceError("the sample has video", remedy="save its sound alone, as M4A or WAV, and give that")
    if result.audio_streams > 1:
        raise VoiceError(
            f"the sample has {result.audio_streams} audio streams",
            remedy="save the one with the voice alone, as M4A or WAV, and give that",
        )
    if result.is_cut:
        raise VoiceError("the sample is truncated", remedy="copy or download the whole file, and give that")
    if result.audio_streams == 0:
        raise VoiceError("the sample holds no audio that ffmpeg can read", remedy=_OTHER_FORMAT)
    if result.seconds is not None and result.seconds > MAX_SAMPLE_SECONDS:
        raise _too_long(f"{result.seconds:.2f} s are")


def _waveform(result: _FfmpegResult) -> tuple[Waveform, int]:
    """The samples that ffmpeg decoded, and their rate in Hz; raises `VoiceError` for unusable ones."""
    if result.wav is None:
        message = f"the sample is damaged or truncated: ffmpeg reports {result.error or 'no reason'}"
        raise VoiceError(message, remedy=f"copy or download the whole file, or {_OTHER_FORMAT}")
    if len(result.wav) >= MAX_DECODED_BYTES:
        raise VoiceError(
            "the sample has too many channels or too high a rate", remedy="save it as mono at 48 kHz"
        )
    try:
        waveform, rate = decode(result.wav, max_seconds=MAX_SAMPLE_SECONDS)
    except AudioTooLong:
        raise _too_long("it is") from None
    except BadAudio as error:
        message = f"the sample is unusable: {error.message}"
        raise VoiceError(message, remedy="save it as mono at 48 kHz") from None
    decoded = waveform.size / rate
    if result.seconds is not None and decoded < result.seconds - _MISSING_SECONDS:
        message = f"the sample is truncated: {decoded:.1f} of {result.seconds:.1f} s decode"
        raise VoiceError(message, remedy="copy or download the whole file, and give that")
    return waveform, rate


def _too_long(subject: str) -> VoiceError:
    message = f"the sample is too long: {subject} over the limit of {MAX_SAMPLE_SECONDS:g} s"
    return VoiceError(message, remedy="cut it to 5 to 20 s of calm speech")


def _seconds(duration: re.Match[str]) -> float:
    hours, minutes, seconds = duration.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
