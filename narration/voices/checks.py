"""Whether a recording is fit to clone a voice from: length, level, clipping, a quiet end, its own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from narration import audio
from narration.contract import MAX_SAMPLE_SECONDS, MIN_SAMPLE_SECONDS
from narration.errors import BadAudio
from narration.speech_duration import speech_duration

ADVISED_SECONDS = (5.0, 20.0)
ADVISED_RATE = 16_000  # Hz; a telephone's 8,000 lack what makes a voice this one
SILENT_DBFS = -60.0  # peak; the worker refuses such samples too
QUIET_DBFS = -40.0  # level of the speech
END_SECONDS = 0.05
END_BELOW_SPEECH_DB = 20.0  # what a finished word falls to at least

_CUT = "cut it to 5 to 20 s of calm speech"
_FULL_SCALE = 0.999
_CLIPPED_RUN = 3  # samples at full scale in a row: a peak has one, a clipped one has several
_CLIPPED_BADLY = 0.01  # of all samples


@dataclass(frozen=True, slots=True)
class SampleProblem:
    """One thing wrong with a voice. An error makes it unusable, a warning makes it worse."""

    severity: Literal["error", "warning"]
    message: str
    remedy: str


def examine_sample(data: bytes, transcript: str) -> tuple[float, list[SampleProblem]]:
    """Return an encoded recording's seconds (0 if undecodable) and what is wrong with it, worst first."""
    try:
        waveform, rate = audio.decode(data, max_seconds=MAX_SAMPLE_SECONDS)
    except BadAudio as error:
        return 0.0, [
            SampleProblem("error", f"the sample is unusable: {error}", f"give WAV or FLAC, and {_CUT}")
        ]
    seconds = waveform.size / rate
    findings = [*_length(seconds), *_level(waveform, rate), *_clipping(waveform)]
    if not any(finding.severity == "error" for finding in findings):
        findings += [*_end(waveform, rate), *_rate(rate), *_words(transcript, seconds)]
    return seconds, sorted(findings, key=lambda finding: finding.severity)


def _length(seconds: float) -> list[SampleProblem]:
    least, most = ADVISED_SECONDS
    if seconds < MIN_SAMPLE_SECONDS:
        message = f"the sample has {seconds:.2f} s, under {MIN_SAMPLE_SECONDS:g}"
        return [SampleProblem("error", message, "record 5 to 20 s")]
    if seconds < least:
        return [SampleProblem("warning", f"the sample has only {seconds:.1f} s", "record 5 to 20 s")]
    if seconds > most:
        return [SampleProblem("warning", f"the sample has {seconds:.1f} s, which slows every clip", _CUT)]
    return []


def _level(waveform: NDArray[np.float32], rate: int) -> list[SampleProblem]:
    peak, speech = _decibels(float(np.abs(waveform).max())), _speech_level(waveform, rate)
    if peak < SILENT_DBFS:
        remedy = "record it again; a stereo file whose sides cancel out is silent too"
        return [SampleProblem("error", f"the sample is silent: its peak is {peak:.0f} dBFS", remedy)]
    if speech < QUIET_DBFS:
        message = f"the sample is quiet: its speech is at {speech:.0f} dBFS"
        return [SampleProblem("warning", message, "record closer to the microphone, at about -20 dBFS")]
    return []


def _clipping(waveform: NDArray[np.float32]) -> list[SampleProblem]:
    full = np.abs(waveform) >= _FULL_SCALE
    edges = np.flatnonzero(np.diff(full, prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    clipped = int(runs[runs >= _CLIPPED_RUN].sum())
    if not clipped:
        return []
    share = clipped / waveform.size
    severity: Literal["error", "warning"] = "error" if share > _CLIPPED_BADLY else "warning"
    message = f"the sample is clipped: {share:.2%} of it is at full scale"
    return [SampleProblem(severity, message, "record it again with less gain")]


def _end(waveform: NDArray[np.float32], rate: int) -> list[SampleProblem]:
    speech = _speech_level(waveform, rate)
    end = _decibels(_rms(waveform[-round(END_SECONDS * rate) :]))
    if end < speech - END_BELOW_SPEECH_DB:
        return []
    message = f"the sample ends in sound: its last {END_SECONDS * 1000:.0f} ms are at {end:.0f} dBFS"
    return [
        SampleProblem(
            "warning", message, "end it in a pause after a whole sentence, or clips may end cut off"
        )
    ]


def _rate(rate: int) -> list[SampleProblem]:
    if rate >= ADVISED_RATE:
        return []
    return [SampleProblem("warning", f"the sample is recorded at {rate} Hz", "record at 24,000 Hz or more")]


def _words(transcript: str, seconds: float) -> list[SampleProblem]:
    spoken = speech_duration(transcript)
    if spoken.fastest <= seconds <= spoken.slowest + 2:  # s; a little silence around the words
        return []
    message = f"the transcript takes about {spoken.expected:.0f} s to say, the sample has {seconds:.1f} s"
    return [
        SampleProblem("warning", message, "give exactly the words of the sample; others spoil every clip")
    ]


def _speech_level(waveform: NDArray[np.float32], rate: int) -> float:
    """Level in dBFS of the louder tenth of the recording, which pauses do not lower."""
    frame = max(1, round(END_SECONDS * rate))
    count = max(1, waveform.size // frame)
    frames = np.resize(waveform, count * frame).reshape(count, frame)
    return _decibels(float(np.quantile(np.sqrt(np.mean(np.square(frames), axis=1)), 0.9)))


def _rms(waveform: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _decibels(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-9)))
