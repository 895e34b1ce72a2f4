"""One attempt at a clip, and the judgement of its result: decoded and checked before it is stored."""

from __future__ import annotations

from dataclasses import dataclass

from narration import audio
from narration.audio.quality import QualityVerdict, inspect_clip
from narration.contract import SAMPLE_RATE
from narration.endpoint import JobResult
from narration.errors import BadAudio, BadResult, QualityError, SettingsError
from narration.planning import PlannedChunk


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a clip: its number, from 1, and the seed that the worker is asked for."""

    number: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A usable answer to an attempt: `flac` is what would be stored, `samples` its length at 24 kHz."""

    attempt: Attempt
    result: JobResult
    flac: bytes
    samples: int
    verdict: QualityVerdict


def judge_attempt(planned: PlannedChunk, attempt: Attempt, result: JobResult) -> Candidate:
    """Decode and judge the result of an attempt's job.

    Raises `BadResult` or `QualityError` for a result that must not be stored, `SettingsError` for one
    from a worker that runs another model.
    """
    answer = result.result
    if answer.model != planned.request.model:
        raise SettingsError(
            f"the worker answered with model {answer.model!r}, not {planned.request.model!r}",
            remedy="set NARRATION_MODEL to the worker's model id, or deploy a worker with this model",
        )
    if answer.seed != attempt.seed:
        raise BadResult(f"the worker used seed {answer.seed}, not {attempt.seed}")
    if answer.finish_reason == "length":
        raise QualityError(f"cut at the cap of {answer.frames} frames")
    try:
        waveform, rate = audio.decode(result.audio)
    except BadAudio as error:
        raise BadResult(f"the worker's answer is not usable audio: {error}") from None
    if rate != SAMPLE_RATE or answer.sample_rate != SAMPLE_RATE:
        raise BadResult(
            f"the worker's audio is at {rate} Hz, declared as {answer.sample_rate} Hz, not {SAMPLE_RATE} Hz"
        )
    verdict = inspect_clip(
        waveform, rate, text=planned.text, finish_reason=answer.finish_reason, frames=answer.frames
    )
    if verdict.fatal:
        raise QualityError(describe_faults(verdict))
    return Candidate(attempt, result, audio.encode_flac(waveform, rate), len(waveform), verdict)


def describe_faults(verdict: QualityVerdict) -> str:
    """The faults and notes of a verdict as one line."""
    return ", ".join(f"{flag.name}: {flag.detail}" for flag in verdict.flags)
