"""One attempt at a clip: what came from the worker, decoded and judged before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from narration import audio
from narration.audio.quality import QualityVerdict, Severity, inspect_clip
from narration.contract import SAMPLE_RATE
from narration.endpoint import JobResult
from narration.errors import BadAudio, BadResult, QualityError, SettingsError
from narration.planning import PlannedChunk
from narration.store import ClipJob, ClipQuality, ClipSidecar, RefusedAttempt


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One attempt that is audio; `flac` is what would be stored, `samples` its length at 24 kHz."""

    flac: bytes
    samples: int
    result: JobResult
    verdict: QualityVerdict
    attempt: int
    seed: int


def judge_attempt(planned: PlannedChunk, result: JobResult, *, attempt: int, seed: int) -> Candidate:
    """Decode and judge what came.

    Raises `BadResult` or `QualityError` for what must never be stored, `SettingsError` for a
    worker that runs another model.
    """
    told = result.result
    if told.model != planned.request.model:
        raise SettingsError(
            f"the worker answered with model {told.model!r}, not {planned.request.model!r}",
            remedy="set NARRATION_MODEL to the worker's model id, or deploy the worker asked for",
        )
    if told.seed != seed:
        raise BadResult(f"the worker used seed {told.seed}, not {seed}")
    if told.finish_reason == "length":
        raise QualityError(f"cut at the cap of {told.frames} frames")
    try:
        waveform, rate = audio.decode(result.audio)
    except BadAudio as error:
        raise BadResult(f"the worker's answer is not usable audio: {error}") from None
    if rate != SAMPLE_RATE or told.sample_rate != SAMPLE_RATE:
        raise BadResult(
            f"the worker's audio is at {rate} Hz, and said to be at {told.sample_rate}, not {SAMPLE_RATE}"
        )
    verdict = inspect_clip(
        waveform, rate, text=planned.text, finish_reason=told.finish_reason, frames=told.frames
    )
    if verdict.fatal:
        raise QualityError(describe_faults(verdict))
    return Candidate(audio.encode_flac(waveform, rate), len(waveform), result, verdict, attempt, seed)


def build_sidecar(
    planned: PlannedChunk, candidate: Candidate, *, endpoint: str, refused: Sequence[RefusedAttempt]
) -> ClipSidecar:
    """The sidecar of a candidate that is kept, with the attempts refused beside it."""
    told = candidate.result.result
    return ClipSidecar(
        digest=planned.digest,
        samples=candidate.samples,
        sample_rate=SAMPLE_RATE,
        size=len(candidate.flac),
        sha256=audio.audio_sha256(candidate.flac),
        text=planned.text,
        model=told.model,
        seed=candidate.seed,
        take=planned.choice.take,
        attempt=candidate.attempt,
        frames=told.frames,
        finish_reason=told.finish_reason,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        job=ClipJob(
            id=candidate.result.job_id,
            endpoint=endpoint,
            execution_ms=_whole(candidate.result.execution_ms),
            delay_ms=_whole(candidate.result.delay_ms),
        ),
        timings=told.timings.model_dump(),
        engine=dict(told.engine),
        quality=_quality(candidate.verdict),
        refused=[entry for entry in refused if entry["attempt"] != candidate.attempt],
    )


def _quality(verdict: QualityVerdict) -> ClipQuality:
    """What the sidecar remembers of a verdict: faults no attempt was free of, and notes."""
    told: dict[bool, list[str]] = {True: [], False: []}
    for flag in verdict.flags:
        told[flag.severity is Severity.NOTE].append(f"{flag.name}: {flag.detail}")
    return {"faults": told[False], "notes": told[True], "score": round(verdict.score, 4)}


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)


def describe_faults(verdict: QualityVerdict) -> str:
    """What is wrong with a clip, in words."""
    return ", ".join(f"{flag.name}: {flag.detail}" for flag in verdict.flags)
