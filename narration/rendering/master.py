"""Mastering: the clips of a timeline become one WAV and one MP3 file at the loudness of a preset.

The whole narration gets one gain, and a limiter takes the few peaks that are still too high; there is
no compressor. Samples are streamed to ffmpeg, so that the memory needed does not grow with the length.
"""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from narration.audio.ffmpeg import REMEDY, feed, find_ffmpeg
from narration.errors import MasteringError
from narration.rendering.assembly import ClipReader, assemble
from narration.rendering.timeline import MASTER_RATE, Timeline

TRUE_PEAK_CEILING = -1.0  # dBTP
MAX_LIMITING = 3.0  # dB; a narration whose peaks would need more stays quieter
TOLERANCE = 0.5  # LU from the target
# Variable rate, some 110 kb/s for one voice; at constant rates below 256 kb/s LAME lowers the level.
MP3_QUALITY = 2

_READING_ERROR = 0.05  # dB; ffmpeg reports tenths
_LIMITER_RATE = 192_000  # Hz; four times the rate, at which sample peaks are true peaks to 0.1 dB
_RESAMPLING_MARGIN = 0.1  # dB by which the limiter is set lower, since resampling to 48 kHz raises peaks
_SILENCE = -69.9  # LUFS; ffmpeg reports -70 if no sound is above its gate
_BYTES_PER_SAMPLE = 2
_MP3_BYTES_PER_SECOND = 24_000  # at most
_FREE_BYTES = 16 * 2**20  # to be left on the disk beside the master
_MIN_SPEED = 4.0  # seconds of audio per second; a slower pass is taken to hang
_MIN_TIMEOUT = 120.0  # s, of a pass over however little audio

_METERS = (("I", "LUFS"), ("Peak", "dBFS"), ("LRA", "LU"))
"""Lines of the summary of `ebur128`, with their units."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A target loudness: integrated LUFS (EBU R128)."""

    name: str
    target_lufs: float


PRESETS = {
    preset.name: preset
    for preset in (Preset("video", -14.0), Preset("podcast", -16.0), Preset("audiobook", -19.0))
}


@dataclass(frozen=True, slots=True)
class Loudness:
    """The loudness of a master as measured on its samples (EBU R128), and the gain that it was given.

    A master that is not on target is quieter, because its peaks would have needed more than
    `MAX_LIMITING` of limiting.
    """

    preset: str
    target_lufs: float
    integrated_lufs: float
    true_peak_dbtp: float
    range_lu: float
    gain_db: float
    limited: bool

    @property
    def on_target(self) -> bool:
        """Whether the integrated loudness is within `TOLERANCE` of the target."""
        return abs(self.integrated_lufs - self.target_lufs) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Master:
    """The audio of a narration in two files: 16-bit mono WAV and MP3 at 48 kHz, each of `samples` samples."""

    wav: Path
    mp3: Path
    samples: int
    loudness: Loudness


def write_master(
    timeline: Timeline,
    read_clip: ClipReader,
    out_dir: Path,
    preset: Preset,
    *,
    ffmpeg_path: str | Path | None = None,
    stop: threading.Event | None = None,
) -> Master:
    """Write `master.wav` and `master.mp3` into `out_dir`.

    The same clips give the same bytes with the same build of ffmpeg on the same kind of machine.
    Setting `stop` from another thread ends the work at the next clip. Raises `MasteringError`, and any
    error of `read_clip`; in both cases no file is left.
    """
    program = find_ffmpeg(ffmpeg_path)
    _check_free_space(timeline, out_dir)
    timeout = _MIN_TIMEOUT + timeline.seconds / _MIN_SPEED

    def run(command: list[str], gain_db: float) -> _Reading:
        blocks = assemble(timeline, read_clip, gain_db, stop)
        return _parse_reading(feed(command, blocks, timeout=timeout))

    wav, mp3 = out_dir / "master.wav", out_dir / "master.mp3"
    before = run(_measuring_command(program), 0.0)
    gain_db = _gain(before, preset)
    limited = before.true_peak + _READING_ERROR + gain_db > TRUE_PEAK_CEILING
    try:
        after = run(_writing_command(program, timeline.samples, wav, mp3, limited=limited), gain_db)
    except BaseException:
        wav.unlink(missing_ok=True)
        mp3.unlink(missing_ok=True)
        raise
    loudness = Loudness(
        preset=preset.name,
        target_lufs=preset.target_lufs,
        integrated_lufs=after.integrated,
        true_peak_dbtp=after.true_peak,
        range_lu=after.range,
        gain_db=round(gain_db, 2),
        limited=limited,
    )
    return Master(wav, mp3, timeline.samples, loudness)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The summary of ffmpeg's filter `ebur128`, in LUFS, dBTP and LU."""

    integrated: float
    true_peak: float
    range: float


def _gain(before: _Reading, preset: Preset) -> float:
    """The gain in dB to the target loudness, or as much of it as `MAX_LIMITING` allows."""
    if before.integrated < _SILENCE:
        raise MasteringError(
            "the narration is silent: it has no loudness to be raised",
            remedy="listen to its clips, and retake those that should not be silent",
        )
    most = TRUE_PEAK_CEILING + MAX_LIMITING - before.true_peak - _READING_ERROR
    return min(preset.target_lufs - before.integrated, most)


def _parse_reading(output: str) -> _Reading:
    """The reading in ffmpeg's output; raises `MasteringError` if there is none."""
    summary = output.rpartition("Summary:")[2]
    matches = [re.search(rf"\b{name}:\s+(\S+) {unit}", summary) for name, unit in _METERS]
    try:
        integrated, true_peak, loudness_range = (float(match[1]) for match in matches if match)
    except ValueError:
        raise MasteringError(f"ffmpeg reported no loudness: {output[-300:]!r}", remedy=REMEDY) from None
    return _Reading(integrated, true_peak, loudness_range)


def _input_stream() -> ffmpeg.Stream:
    return ffmpeg.input("pipe:0", format="f32le", ar=MASTER_RATE, ac=1, protocol_whitelist="pipe")


def _measured(stream: ffmpeg.Stream) -> ffmpeg.Stream:
    return stream.filter("ebur128", peak="true", framelog="quiet").output("-", format="null")


def _measuring_command(program: Path) -> list[str]:
    return _command(program, _measured(_input_stream()))


def _writing_command(program: Path, samples: int, wav: Path, mp3: Path, *, limited: bool) -> list[str]:
    """The command that limits the samples if `limited`, writes both files, and measures what is written."""
    stream = _input_stream()
    if limited:
        ceiling = 10 ** ((TRUE_PEAK_CEILING - _RESAMPLING_MARGIN) / 20)
        stream = (
            stream.filter("aresample", _LIMITER_RATE)
            .filter("alimiter", limit=ceiling, attack=5, release=50, level="disabled", latency=1)
            .filter("aresample", MASTER_RATE)
        )
    exact = stream.filter("apad", whole_len=samples).filter("atrim", end_sample=samples)
    parts = exact.filter("aformat", sample_fmts="s16").filter_multi_output("asplit", 3)
    # No time, version or random number is written, so that the same samples give the same bytes.
    plain = {"map_metadata": -1, "fflags": "+bitexact", "flags:a": "+bitexact"}
    written = ffmpeg.merge_outputs(
        # Clips have 16 bits too. A WAV file over 4 GB, at 12 hours, becomes RF64.
        ffmpeg.output(parts[0], f"file:{wav}", format="wav", acodec="pcm_s16le", rf64="auto", **plain),
        ffmpeg.output(
            parts[1], f"file:{mp3}", format="mp3", acodec="libmp3lame", **{"q:a": MP3_QUALITY}, **plain
        ),
        _measured(parts[2]),
    )
    return _command(program, written)


def _command(program: Path, graph: ffmpeg.Stream) -> list[str]:
    quiet = graph.global_args("-hide_banner", "-nostats", "-nostdin")
    command: list[str] = quiet.compile(cmd=str(program), overwrite_output=True)
    return command


def _check_free_space(timeline: Timeline, out_dir: Path) -> None:
    needed = timeline.samples * _BYTES_PER_SAMPLE + timeline.seconds * _MP3_BYTES_PER_SECOND + _FREE_BYTES
    free = shutil.disk_usage(out_dir).free
    if free < needed:
        raise MasteringError(
            f"no room for the master: {needed / 2**20:.0f} MB needed, {free / 2**20:.0f} MB free",
            remedy=f"free some space in {out_dir} and run again",
        )
