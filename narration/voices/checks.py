"""Problems of a voice sample: those that make it unusable and those that make the cloned voice worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from narration.audio.files import Waveform, within_full_scale
from narration.audio.voice_sample import UnusableSample, decode_voice_sample
from narration.contract import ErrorCode
from narration.speech_duration import speech_duration

ADVISED_SECONDS = (5.0, 20.0)
ADVISED_RATE = 16_000  # Hz; a telephone's 8,000 lack what distinguishes voices
QUIET_DBFS = -40.0  # level of the speech
END_SECONDS = 0.05
END_BELOW_SPEECH_DB = 20.0  # by which the end must be softer: a finished word is

_SHORTEN = "cut it to 5 to 20 s of calm speech"
_LENGTHEN = "record 5 to 20 s"
_REMEDIES = {
    ErrorCode.SAMPLE_TOO_LARGE: _SHORTEN,
    ErrorCode.SAMPLE_TOO_LONG: _SHORTEN,
    ErrorCode.SAMPLE_TOO_SHORT: _LENGTHEN,
    ErrorCode.SAMPLE_SILENT: "record it again; a stereo file whose sides cancel out is silent too",
}
_NOT_AUDIO_REMEDY = f"give WAV or FLAC, and {_SHORTEN}"
_CLIPPED_LEVEL = 0.999  # of full scale
_CLIPPED_RUN = 3  # samples at full scale in a row: a peak has one, a clipped one has several
_CLIPPED_BADLY = 0.01  # of all samples


@dataclass(frozen=True, slots=True)
class SampleProblem:
    """One problem of a voice sample. An error makes it unusable, a warning makes the voice worse."""

    severity: Literal["error", "warning"]
    message: str
    remedy: str


def examine_sample(data: bytes, transcript: str) -> tuple[float, list[SampleProblem]]:
    """Return an encoded recording's seconds (0 where it is unusable) and its problems, errors first."""
    try:
        waveform, rate = decode_voice_sample(data)
    except UnusableSample as error:
        remedy = _REMEDIES.get(error.code, _NOT_AUDIO_REMEDY)
        return 0.0, [SampleProblem("error", error.message, remedy)]
    seconds = waveform.size / rate
    clipping = _clipping(waveform)  # before scaling: afterwards the highest peak is at full scale
    waveform = within_full_scale(waveform)
    problems = [*_length(seconds), *_level(waveform, rate), *clipping]
    if not any(problem.severity == "error" for problem in problems):
        problems += [*_end(waveform, rate), *_rate(rate), *_words(transcript, seconds)]
    return seconds, sorted(problems, key=lambda problem: problem.severity)


def _length(seconds: float) -> list[SampleProblem]:
    least, most = ADVISED_SECONDS
    if seconds < least:
        return [SampleProblem("warning", f"the sample has only {seconds:.1f} s", _LENGTHEN)]
    if seconds > most:
        message = f"the sample has {seconds:.1f} s, which slows every clip"
        return [SampleProblem("warning", message, _SHORTEN)]
    return []


def _level(waveform: Waveform, rate: int) -> list[SampleProblem]:
    level = _speech_level(waveform, rate)
    if level >= QUIET_DBFS:
        return []
    message = f"the sample is quiet: its speech is at {level:.0f} dBFS"
    return [SampleProblem("warning", message, "record closer to the microphone, at about -20 dBFS")]


def _clipping(waveform: Waveform) -> list[SampleProblem]:
    """Runs of samples at full scale. Float samples beyond it are not clipped: their format holds them."""
    level = np.abs(waveform)
    edges = np.flatnonzero(np.diff((level >= _CLIPPED_LEVEL) & (level <= 1), prepend=False, append=False))
    runs = edges[1::2] - edges[::2]
    clipped = int(runs[runs >= _CLIPPED_RUN].sum())
    if not clipped:
        return []
    share = clipped / waveform.size
    severity: Literal["error", "warning"] = "error" if share > _CLIPPED_BADLY else "warning"
    message = f"the sample is clipped: {share:.2%} of it is at full scale"
    return [SampleProblem(severity, message, "record it again with less gain")]


def _end(waveform: Waveform, rate: int) -> list[SampleProblem]:
    level = _decibels(_rms(waveform[-round(END_SECONDS * rate) :]))
    if level < _speech_level(waveform, rate) - END_BELOW_SPEECH_DB:
        return []
    message = f"the sample ends in sound: its last {END_SECONDS * 1000:.0f} ms are at {level:.0f} dBFS"
    remedy = "end it in a pause after a whole sentence, or clips may end cut off"
    return [SampleProblem("warning", message, remedy)]


def _rate(rate: int) -> list[SampleProblem]:
    if rate >= ADVISED_RATE:
        return []
    return [SampleProblem("warning", f"the sample is recorded at {rate} Hz", "record at 24,000 Hz or more")]


def _words(transcript: str, seconds: float) -> list[SampleProblem]:
    duration = speech_duration(transcript)
    if duration.fastest <= seconds <= duration.slowest + 2:  # s of silence around the words
        return []
    message = f"the transcript takes about {duration.expected:.0f} s to say, the sample has {seconds:.1f} s"
    remedy = "give exactly the words of the sample; others spoil every clip"
    return [SampleProblem("warning", message, remedy)]


def _speech_level(waveform: Waveform, rate: int) -> float:
    """Level in dBFS of the louder tenth of the recording, which pauses do not lower."""
    frame = max(1, round(END_SECONDS * rate))
    count = max(1, waveform.size // frame)
    frames = np.resize(waveform, count * frame).reshape(count, frame)
    return _decibels(float(np.quantile(np.sqrt(np.mean(np.square(frames), axis=1)), 0.9)))


def _rms(waveform: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _decibels(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-9)))
