"""Builds the sidecar of a kept clip: its text, job and quality, and which attempts were refused."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from narration import audio
from narration.audio.quality import QualityVerdict, Severity
from narration.contract import SAMPLE_RATE
from narration.planning import PlannedChunk
from narration.store import ClipJob, ClipQuality, ClipSidecar, RefusedAttempt
from narration.synthesis.candidate import Candidate


def build_sidecar(
    planned: PlannedChunk, candidate: Candidate, *, endpoint_id: str, refused: Iterable[RefusedAttempt]
) -> ClipSidecar:
    """The sidecar of `candidate`, with the other attempts of `refused`."""
    answer = candidate.result.result
    return ClipSidecar(
        digest=planned.digest,
        samples=candidate.samples,
        sample_rate=SAMPLE_RATE,
        size=len(candidate.flac),
        sha256=audio.audio_sha256(candidate.flac),
        text=planned.text,
        model=answer.model,
        seed=candidate.attempt.seed,
        take=planned.take,
        attempt=candidate.attempt.number,
        frames=answer.frames,
        finish_reason=answer.finish_reason,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        job=ClipJob(
            id=candidate.result.job_id,
            endpoint=endpoint_id,
            execution_ms=_rounded(candidate.result.execution_ms),
            delay_ms=_rounded(candidate.result.delay_ms),
        ),
        timings=answer.timings.model_dump(),
        engine=dict(answer.engine),
        quality=_quality(candidate.verdict),
        refused=[entry for entry in refused if entry["attempt"] != candidate.attempt.number],
    )


def _quality(verdict: QualityVerdict) -> ClipQuality:
    """A verdict as the sidecar stores it."""
    notes = [flag for flag in verdict.flags if flag.severity is Severity.NOTE]
    faults = [flag for flag in verdict.flags if flag.severity is not Severity.NOTE]
    return {
        "faults": [f"{flag.name}: {flag.detail}" for flag in faults],
        "notes": [f"{flag.name}: {flag.detail}" for flag in notes],
        "score": round(verdict.score, 4),
    }


def _rounded(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)
