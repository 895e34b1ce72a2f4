"""The clips of a Timeline become one WAV and one MP3 at a stated loudness.

Nothing is compressed: one gain for the whole narration, and a limiter for its last few peaks.
Every step streams, so that ten hours take no more memory than ten minutes.
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
MAX_LIMITING = 3.0  # dB; what would need more stays quieter
TOLERANCE = 0.5  # LU
# LAME at constant rates below 256 kb/s lowers the level; at this quality one voice takes some 110 kb/s.
MP3_QUALITY = 2

_READING = 0.05  # dB; ffmpeg reports tenths, so a reading may be this much off
_LIMITER_RATE = 192_000  # Hz; four times over, where sample peaks are true peaks to 0.1 dB
_SETTLING = 0.1  # dB the limiter aims lower, for what resampling back to 48 kHz adds
_SILENCE = -69.9  # LUFS; ffmpeg says -70 where nothing passes the gate
_BYTES_PER_SAMPLE = 2
_MP3_BYTES = 24_000  # a second, at the most
_ROOM = 16 * 2**20  # bytes left free beside the master
_SLOWEST = 4.0  # times real time; a pass slower than this hangs
_PATIENCE = 120.0  # s a pass may take however short it is


@dataclass(frozen=True, slots=True)
class Preset:
    """A loudness to aim at, in LUFS integrated."""

    name: str
    target_lufs: float


PRESETS = {
    preset.name: preset
    for preset in (Preset("video", -14.0), Preset("podcast", -16.0), Preset("audiobook", -19.0))
}


@dataclass(frozen=True, slots=True)
class Loudness:
    """The finished master's loudness as measured on its samples (EBU R128), and how it came to be.

    `on_target` is within 0.5 LU of the preset; a master that is not is quieter, because its
    peaks would have needed more than 3 dB of limiting.
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
        """Whether the master is within the tolerance of its target."""
        return abs(self.integrated_lufs - self.target_lufs) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Master:
    """The finished narration: 16-bit mono WAV and MP3 at 48 kHz, both `samples` long."""

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
    """Write `master.wav` and `master.mp3` into `out_dir`; the same clips give the same bytes.

    The bytes hold for one ffmpeg on one kind of machine. Setting `stop` from another thread
    ends the work at the next clip. Raises `MasteringError`, or what `read_clip` raised, and
    leaves nothing behind in either case.
    """
    program = find_ffmpeg(ffmpeg_path)
    _refuse_full_disk(timeline, out_dir)
    timeout = _PATIENCE + timeline.seconds / _SLOWEST

    def run(command: list[str], gain_db: float) -> _Reading:
        return _reading(feed(command, assemble(timeline, read_clip, gain_db, stop), timeout=timeout))

    wav, mp3 = out_dir / "master.wav", out_dir / "master.mp3"
    before = run(_measuring(program), 0.0)
    gain_db = _gain(before, preset)
    limited = before.true_peak + _READING + gain_db > TRUE_PEAK_CEILING
    try:
        after = run(_writing(program, timeline.samples, wav, mp3, limited=limited), gain_db)
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
    """What ffmpeg's `ebur128` says: LUFS, dBTP, LU."""

    integrated: float
    true_peak: float
    range: float


def _gain(before: _Reading, preset: Preset) -> float:
    """The gain to the target, or to where the limiter would have to take more than its share."""
    if before.integrated < _SILENCE:
        raise MasteringError(
            "the narration is silent: there is nothing to bring to a loudness",
            remedy="listen to its clips, and take again those that should not be",
        )
    most = TRUE_PEAK_CEILING + MAX_LIMITING - before.true_peak - _READING
    return min(preset.target_lufs - before.integrated, most)


def _reading(said: str) -> _Reading:
    summary = said.rpartition("Summary:")[2]
    found = [re.search(rf"\b{name}:\s+(\S+) {unit}", summary) for name, unit in _METERS]
    try:
        integrated, true_peak, loudness_range = (float(match[1]) for match in found if match)
    except ValueError:
        raise MasteringError(f"ffmpeg gave no loudness: {said[-300:]!r}", remedy=REMEDY) from None
    return _Reading(integrated, true_peak, loudness_range)


_METERS = (("I", "LUFS"), ("Peak", "dBFS"), ("LRA", "LU"))


def _source() -> ffmpeg.Stream:
    return ffmpeg.input("pipe:0", format="f32le", ar=MASTER_RATE, ac=1, protocol_whitelist="pipe")


def _metered(stream: ffmpeg.Stream) -> ffmpeg.Stream:
    return stream.filter("ebur128", peak="true", framelog="quiet").output("-", format="null")


def _measuring(program: Path) -> list[str]:
    return _command(program, _metered(_source()))


def _writing(program: Path, samples: int, wav: Path, mp3: Path, *, limited: bool) -> list[str]:
    """Limit if need be, then write and measure the very 16-bit samples that are written."""
    stream = _source()
    if limited:
        ceiling = 10 ** ((TRUE_PEAK_CEILING - _SETTLING) / 20)
        stream = (
            stream.filter("aresample", _LIMITER_RATE)
            .filter("alimiter", limit=ceiling, attack=5, release=50, level="disabled", latency=1)
            .filter("aresample", MASTER_RATE)
        )
    exact = stream.filter("apad", whole_len=samples).filter("atrim", end_sample=samples)
    parts = exact.filter("aformat", sample_fmts="s16").filter_multi_output("asplit", 3)
    # No clock, version or random number enters the files: the same samples are the same bytes.
    plain = {"map_metadata": -1, "fflags": "+bitexact", "flags:a": "+bitexact"}
    written = ffmpeg.merge_outputs(
        # 16 bits are what the clips have; RF64 takes over beyond 4 GB, at 12 hours.
        ffmpeg.output(parts[0], f"file:{wav}", format="wav", acodec="pcm_s16le", rf64="auto", **plain),
        ffmpeg.output(
            parts[1], f"file:{mp3}", format="mp3", acodec="libmp3lame", **{"q:a": MP3_QUALITY}, **plain
        ),
        _metered(parts[2]),
    )
    return _command(program, written)


def _command(program: Path, graph: ffmpeg.Stream) -> list[str]:
    quiet = graph.global_args("-hide_banner", "-nostats", "-nostdin")
    command: list[str] = quiet.compile(cmd=str(program), overwrite_output=True)
    return command


def _refuse_full_disk(timeline: Timeline, out_dir: Path) -> None:
    needed = timeline.samples * _BYTES_PER_SAMPLE + timeline.seconds * _MP3_BYTES + _ROOM
    free = shutil.disk_usage(out_dir).free
    if free < needed:
        raise MasteringError(
            f"no room for the master: {needed / 2**20:.0f} MB needed, {free / 2**20:.0f} MB free",
            remedy=f"free some space in {out_dir} and run again",
        )
