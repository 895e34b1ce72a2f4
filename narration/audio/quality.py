"""Quality of a clip, judged by its samples: whether they can be its text, spoken without a fault.

The thresholds refuse no real speech. Some come from audiobook tools, which take a clip for cut off when
its last 10 ms are over -20 dBFS, and for too long beyond 1.5 s and 0.75 s a word. A limit that ignored
digits cost them hundreds of needless retries a book.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from narration.audio.clip_shape import ClipShape, frame_levels, shape_of
from narration.contract import FRAME_RATE, SAMPLE_RATE
from narration.speech_duration import speech_duration

FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE

LENGTH_TOLERANCE = 1  # frames by which the worker's count and its audio may differ
SILENT = 10 ** (-55 / 20)  # RMS of the loudest 30 ms; quiet speech peaks above -40 dBFS
CLIPPED_LEVEL = 0.999  # of full scale
CLIPPED_RUN = 4  # samples in a row at full scale: two may be a peak, four are clipped
CLIPPED_SHARE = 0.001  # of all samples; less of it is heard already
DEAD_AIR = 3.0  # s of silence between words; no punctuation asks for as much
LONG_PAUSE = 1.5  # s; reported without counting as a fault
CUT_WINDOW = 0.01  # s at the end of the sound
CUT_LEVEL = 10 ** (-20 / 20)  # RMS of that window
CUT_BELOW_SPEECH = 10 ** (-6 / 20)  # of the clip's loud frames: a softer end is a finished word
CONSTANT_SPREAD = 1.5  # dB between soft and loud frames; speech varies more


class Severity(StrEnum):
    """What a flag means for the clip."""

    NOTE = "note"  # reported only
    FAULT = "fault"  # another seed is tried; the clip is stored if none is better
    FATAL = "fatal"  # the clip is never stored


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One observation about a clip: its kind by `name`, as sidecars store it, and figures in `detail`."""

    name: str
    detail: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """The flags of one clip. `score`, from 0 to 1, orders the attempts at a text."""

    flags: tuple[QualityFlag, ...]
    score: float

    @property
    def acceptable(self) -> bool:
        """Whether the clip is stored without another attempt."""
        return all(flag.severity is Severity.NOTE for flag in self.flags)

    @property
    def fatal(self) -> bool:
        """Whether the clip is never stored, even when all attempts failed."""
        return any(flag.severity is Severity.FATAL for flag in self.flags)


def inspect_clip(
    waveform: NDArray[np.float32], sample_rate: int, *, text: str, finish_reason: str, frames: int
) -> QualityVerdict:
    """Judge a clip of `text` by its mono samples and the worker's finish reason and frame count.

    Fatal: another sample rate or length than announced, samples that are not finite, silence, an end at the
    frame cap. Faults: clipping, a duration too short or too long for the words, dead air, a tone instead of
    speech, an end within a sound. A note: a long pause.
    """
    fatal = _fatal_flags(waveform, sample_rate, finish_reason, frames)
    if fatal:
        return QualityVerdict(tuple(fatal), 0.0)
    shape = shape_of(waveform, sample_rate)
    flags = [
        *_clipping(waveform),
        *_length(shape, text),
        *_pauses(shape),
        *_levels(waveform),
        *_end(waveform),
    ]
    return QualityVerdict(tuple(flags), _score(flags, shape, text))


def _fatal_flags(
    waveform: NDArray[np.float32], sample_rate: int, finish_reason: str, frames: int
) -> list[QualityFlag]:
    """Flags of a waveform that the other checks cannot or need not measure."""
    flags = []
    if sample_rate != SAMPLE_RATE:
        flags.append(_fatal("sample-rate", f"{sample_rate} Hz instead of {SAMPLE_RATE}"))
    if finish_reason != "stop":
        flags.append(_fatal("cut-at-cap", f"the worker stopped for {finish_reason!r} after {frames} frames"))
    if waveform.ndim != 1 or waveform.size == 0:
        return [*flags, _fatal("empty", f"samples of the shape {waveform.shape}")]
    if abs(waveform.size - frames * FRAME_SAMPLES) > LENGTH_TOLERANCE * FRAME_SAMPLES:
        flags.append(_fatal("length", f"{waveform.size} samples for {frames} frames of {FRAME_SAMPLES}"))
    if not np.isfinite(waveform).all():
        flags.append(_fatal("not-finite", "samples that are not numbers"))
    elif float(frame_levels(waveform, SAMPLE_RATE).max()) < SILENT:
        flags.append(_fatal("silent", "nothing but silence"))
    return flags


def _clipping(waveform: NDArray[np.float32]) -> list[QualityFlag]:
    """The share of samples in runs at full scale."""
    full = (np.abs(waveform) >= CLIPPED_LEVEL).astype(np.int32)
    runs = np.convolve(full, np.ones(CLIPPED_RUN, np.int32), mode="valid") == CLIPPED_RUN
    share = float(runs.sum()) / waveform.size
    if share <= CLIPPED_SHARE:
        return []
    return [_fault("clipping", f"{share:.1%} of the samples are clipped")]


def _length(shape: ClipShape, text: str) -> list[QualityFlag]:
    """The duration of the speech, without the silence around it, against the fastest and slowest pace."""
    seconds = (shape.speech_end - shape.speech_start) / SAMPLE_RATE
    bounds = speech_duration(text)
    if seconds < bounds.fastest:
        return [_fault("too-short", f"{seconds:.1f} s for words that take {bounds.expected:.1f} s")]
    if seconds > bounds.slowest:
        return [_fault("too-long", f"{seconds:.1f} s for words that take {bounds.expected:.1f} s")]
    return []


def _pauses(shape: ClipShape) -> list[QualityFlag]:
    longest = max((end - start for start, end in shape.pauses), default=0) / SAMPLE_RATE
    if longest > DEAD_AIR:
        return [_fault("dead-air", f"{longest:.1f} s of silence between words")]
    if longest > LONG_PAUSE:
        return [QualityFlag("long-pause", f"{longest:.1f} s of silence between words", Severity.NOTE)]
    return []


def _levels(waveform: NDArray[np.float32]) -> list[QualityFlag]:
    """The level of speech varies with every syllable, that of a hum, a tone or noise does not."""
    levels = frame_levels(waveform, SAMPLE_RATE)
    levels = levels[2:-2] if levels.size > 20 else levels[:0]
    if not levels.size:
        return []
    soft, loud = np.percentile(levels, [10, 90])
    if loud > soft * 10 ** (CONSTANT_SPREAD / 20):
        return []
    return [_fault("no-speech", "one even sound, without syllables")]


def _end(waveform: NDArray[np.float32]) -> list[QualityFlag]:
    """Whether the sound stops abruptly, at the clip's end or before the zeros that fill its last frame."""
    sound = waveform[: int(np.flatnonzero(waveform)[-1]) + 1]
    end = sound[-round(CUT_WINDOW * SAMPLE_RATE) :].astype(np.float64)
    level = float(np.sqrt(np.square(end).mean()))
    loud = float(np.percentile(frame_levels(waveform, SAMPLE_RATE), 90))
    if level <= CUT_LEVEL or level <= loud * CUT_BELOW_SPEECH:
        return []
    return [_fault("abrupt-end", f"still at {20 * np.log10(level):.0f} dBFS when it ends")]


def _score(flags: list[QualityFlag], shape: ClipShape, text: str) -> float:
    """1 for a clip without flags at the expected pace; less for each flag and for another pace."""
    seconds = max(shape.speech_end - shape.speech_start, 1) / SAMPLE_RATE
    pace_error = abs(float(np.log2(seconds / speech_duration(text).expected)))  # octaves
    faults = sum(flag.severity is Severity.FAULT for flag in flags)
    notes = len(flags) - faults
    return round(max(0.0, 1.0 - 0.25 * faults - 0.05 * notes - 0.05 * min(pace_error, 4.0)), 3)


def _fatal(name: str, detail: str) -> QualityFlag:
    return QualityFlag(name, detail, Severity.FATAL)


def _fault(name: str, detail: str) -> QualityFlag:
    return QualityFlag(name, detail, Severity.FAULT)
