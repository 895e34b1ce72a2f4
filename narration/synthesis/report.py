"""The report of a run, and of a plan, as plain values for the command line and for programs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from narration.planning import Plan


class RunReport(BaseModel):
    """The outcome of the flows `narrate` and `retake`. Counts are of chunks; `duration` in seconds."""

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
    cost: float = 0.0  # USD that this run spent, at the price in the settings
    flagged: tuple[int, ...] = ()  # numbers of the chunks whose clip has faults
    dropped: tuple[str, ...] = ()  # source texts of the published takes that no chunk carries on
    notes: tuple[str, ...] = ()  # checks that could not be decided


def plan_report(plan: Plan) -> dict[str, Any]:
    """A plan as plain values; seconds are of speech or of a GPU, prices in USD."""
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
