"""How much speech, GPU time and money the missing clips will take."""

from __future__ import annotations

from collections.abc import Sequence

from narration.planning.plan import Estimate, PlannedChunk
from narration.settings import ASSUMED_SPEED, EngineName, Settings
from narration.speech_duration import expected_seconds


def estimate(chunks: Sequence[PlannedChunk], settings: Settings, engine: EngineName) -> Estimate:
    """Seconds and price of what is missing; each distinct clip is counted once."""
    total = sum(
        entry.clip.seconds if entry.clip else expected_seconds(entry.request.prompt) for entry in chunks
    )
    distinct = {entry.digest: entry.request.prompt for entry in chunks if entry.clip is None}
    missing = sum(expected_seconds(text) for text in distinct.values())
    speed = settings.speed or ASSUMED_SPEED
    paid = engine != "draft"
    gpu_seconds = missing / speed if paid else 0.0
    return Estimate(
        speech_seconds=total,
        missing_seconds=missing,
        gpu_seconds=gpu_seconds,
        price=gpu_seconds * settings.price_per_second if paid else 0.0,
        price_per_second=settings.price_per_second if paid else 0.0,
        speed=speed,
        speed_measured=settings.speed is not None,
    )
