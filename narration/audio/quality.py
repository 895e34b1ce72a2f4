"""Whether a clip can be this text spoken, judged by its samples alone.

Cheap checks that come before any listening machine, with thresholds forgiving enough never to
refuse real speech. Their sources are what long-form speech tools settled on: audiobook tools
count a clip as cut when its last 10 ms exceed -20 dBFS and as running away beyond 1.5 s plus
0.75 s a word; a bound on length alone, without regard to digits, cost them hundreds of needless
retries a book.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from narration.audio.shape import ClipShape, frame_levels, shape_of
from narration.contract import FRAME_RATE, SAMPLE_RATE
from narration.speech_duration import speech_duration

FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE

LENGTH_TOLERANCE = 1  # frames between what the worker says and what it sent
SILENT = 10 ** (-55 / 20)  # RMS of the loudest 30 ms; quiet speech peaks above -40 dBFS
CLIPPED_LEVEL = 0.999  # of full scale
CLIPPED_RUN = 4  # samples in a row at full scale: two may be a peak, four are a plateau
CLIPPED_SHARE = 0.001  # of all samples; audible well before
DEAD_AIR = 3.0  # s of silence between words that no punctuation asks for
LONG_PAUSE = 1.5  # s; told, not held against the clip
CUT_WINDOW = 0.01  # s at the end of the sound
CUT_LEVEL = 10 ** (-20 / 20)  # RMS of that window
CUT_BELOW_SPEECH = 10 ** (-6 / 20)  # and no more than 6 dB under the clip's loud frames
CONSTANT_SPREAD = 1.5  # dB between soft and loud frames, under which sound is no speech


class Severity(StrEnum):
    """What a flag means for the clip."""

    NOTE = "note"  # worth knowing
    FAULT = "fault"  # another seed may do better; kept if none does
    FATAL = "fatal"  # never a clip of this narration


@dataclass(frozen=True, slots=True)
class Flag:
    """One thing found: a stable `name`, and a `detail` for people."""

    name: str
    detail: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything found in one clip. `score` from 0 to 1 orders attempts at the same text."""

    flags: tuple[Flag, ...]
    score: float

    @property
    def acceptable(self) -> bool:
        """Whether the clip is stored without trying another seed."""
        return all(flag.severity is Severity.NOTE for flag in self.flags)

    @property
    def fatal(self) -> bool:
        """Whether the clip must never be stored, however many attempts failed."""
        return any(flag.severity is Severity.FATAL for flag in self.flags)


def inspect_clip(
    waveform: NDArray[np.float32], sample_rate: int, *, text: str, finish_reason: str, frames: int
) -> Verdict:
    """Judge a clip of `text`: mono samples, and what the worker said of them.

    Looks for: another rate or length than the contract's, samples that are no numbers, silence,
    an end at the frame cap (all fatal); clipping, a length no speaker needs or manages for the
    words, dead air, a tone instead of speech, an end in mid-sound (faults); long pauses (a note).
    """
    broken = _broken(waveform, sample_rate, finish_reason, frames)
    if broken:
        return Verdict(tuple(broken), 0.0)
    shape = shape_of(waveform, sample_rate)
    found = [
        *_clipping(waveform),
        *_length(shape, text),
        *_pauses(shape),
        *_levels(waveform),
        *_end(waveform),
    ]
    return Verdict(tuple(found), _score(found, shape, text))


def _broken(waveform: NDArray[np.float32], sample_rate: int, finish_reason: str, frames: int) -> list[Flag]:
    """What makes everything else not worth asking."""
    found = []
    if sample_rate != SAMPLE_RATE:
        found.append(_fatal("sample-rate", f"{sample_rate} Hz instead of {SAMPLE_RATE}"))
    if finish_reason != "stop":
        found.append(_fatal("cut-at-cap", f"the worker stopped for {finish_reason!r} after {frames} frames"))
    if waveform.ndim != 1 or waveform.size == 0:
        return [*found, _fatal("empty", f"samples of the shape {waveform.shape}")]
    if abs(waveform.size - frames * FRAME_SAMPLES) > LENGTH_TOLERANCE * FRAME_SAMPLES:
        found.append(_fatal("length", f"{waveform.size} samples for {frames} frames of {FRAME_SAMPLES}"))
    if not np.isfinite(waveform).all():
        found.append(_fatal("not-finite", "samples that are not numbers"))
    elif float(frame_levels(waveform, SAMPLE_RATE).max()) < SILENT:
        found.append(_fatal("silent", "nothing but silence"))
    return found


def _clipping(waveform: NDArray[np.float32]) -> list[Flag]:
    """Samples on plateaus at full scale, as a share of all."""
    full = (np.abs(waveform) >= CLIPPED_LEVEL).astype(np.int32)
    plateaus = np.convolve(full, np.ones(CLIPPED_RUN, np.int32), mode="valid") == CLIPPED_RUN
    share = float(plateaus.sum()) / waveform.size
    if share <= CLIPPED_SHARE:
        return []
    return [_fault("clipping", f"{share:.1%} of the samples are clipped")]


def _length(shape: ClipShape, text: str) -> list[Flag]:
    """Seconds of sound, silent edges aside, against what anyone needs for the words."""
    seconds = (shape.speech_end - shape.speech_start) / SAMPLE_RATE
    bounds = speech_duration(text)
    if seconds < bounds.fastest:
        return [_fault("too-short", f"{seconds:.1f} s for words that take {bounds.expected:.1f} s")]
    if seconds > bounds.slowest:
        return [_fault("too-long", f"{seconds:.1f} s for words that take {bounds.expected:.1f} s")]
    return []


def _pauses(shape: ClipShape) -> list[Flag]:
    longest = max((end - start for start, end in shape.pauses), default=0) / SAMPLE_RATE
    if longest > DEAD_AIR:
        return [_fault("dead-air", f"{longest:.1f} s of silence between words")]
    if longest > LONG_PAUSE:
        return [Flag("long-pause", f"{longest:.1f} s of silence between words", Severity.NOTE)]
    return []


def _levels(waveform: NDArray[np.float32]) -> list[Flag]:
    """Speech rises and falls with every syllable; a hum, a tone or noise does not."""
    levels = frame_levels(waveform, SAMPLE_RATE)
    levels = levels[2:-2] if levels.size > 20 else levels[:0]
    if not levels.size:
        return []
    soft, loud = np.percentile(levels, [10, 90])
    if loud > soft * 10 ** (CONSTANT_SPREAD / 20):
        return []
    return [_fault("no-speech", "one even sound, without syllables")]


def _end(waveform: NDArray[np.float32]) -> list[Flag]:
    """Whether the clip stops in mid-sound, be it at its end or before the zeros that fill its last frame."""
    sound = waveform[: int(np.flatnonzero(waveform)[-1]) + 1]
    end = sound[-round(CUT_WINDOW * SAMPLE_RATE) :].astype(np.float64)
    level = float(np.sqrt(np.square(end).mean()))
    loud = float(np.percentile(frame_levels(waveform, SAMPLE_RATE), 90))
    if level <= CUT_LEVEL or level <= loud * CUT_BELOW_SPEECH:
        return []
    return [_fault("abrupt-end", f"still at {20 * np.log10(level):.0f} dBFS when it ends")]


def _score(flags: list[Flag], shape: ClipShape, text: str) -> float:
    """1 for a clip without flags at the expected pace; each flag and each departure costs."""
    seconds = max(shape.speech_end - shape.speech_start, 1) / SAMPLE_RATE
    haste = abs(float(np.log2(seconds / speech_duration(text).expected)))
    faults = sum(flag.severity is Severity.FAULT for flag in flags)
    notes = len(flags) - faults
    return round(max(0.0, 1.0 - 0.25 * faults - 0.05 * notes - 0.05 * min(haste, 4.0)), 3)


def _fatal(name: str, detail: str) -> Flag:
    return Flag(name, detail, Severity.FATAL)


def _fault(name: str, detail: str) -> Flag:
    return Flag(name, detail, Severity.FAULT)
