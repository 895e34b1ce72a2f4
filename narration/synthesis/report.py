"""What a run would do, and what one did, as one object for people, programs and exit codes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from narration.planning import Plan


class RunReport(BaseModel):
    """The outcome of `run` and `retake`. Counts are of chunks; `duration` in seconds."""

    model_config = ConfigDict(frozen=True)

    narration_id: str
    manifest: str | None
    files: dict[str, str]
    duration: float | None
    chunks: int
    synthesized: int
    cached: int
    failed: int
    failures: dict[int, str] = {}
    engine: str
    cost: float = 0.0  # USD paid in this run, at the price set
    flagged: tuple[int, ...] = ()  # chunks that no attempt spoke without a doubt
    dropped: tuple[str, ...] = ()  # choices of an earlier script that no chunk took over
    notes: tuple[str, ...] = ()


def plan_report(plan: Plan) -> dict[str, Any]:
    """A plan as JSON for programs; seconds are of speech or of a GPU, prices in USD."""
    estimate = plan.estimate
    return {
        "narration_id": plan.narration_id,
        "model": plan.model,
        "voice": plan.voice.name if plan.voice else None,
        "chunks": [
            {
                "index": planned.chunk.index,
                "text": planned.text,
                "characters": len(planned.text),
                "digest": planned.digest,
                "cached": planned.clip is not None,
                "boundary": planned.chunk.boundary,
            }
            for planned in plan.chunks
        ],
        "totals": {
            "chunks": len(plan.chunks),
            "cached": plan.cached,
            "characters": sum(len(planned.text) for planned in plan.chunks),
            "speech_seconds": round(estimate.speech_seconds, 2),
            "gpu_seconds": round(estimate.gpu_seconds, 2),
            "price": round(estimate.price, 6),
            "price_per_second": estimate.price_per_second,
            "speed": estimate.speed,
            "speed_source": "measured" if estimate.speed_measured else "assumed",
        },
    }
