"""The estimate of a plan: how much speech, GPU time and money its missing clips will take."""

from __future__ import annotations

from collections.abc import Sequence

from narration.planning.plan import Estimate, PlannedChunk
from narration.settings import ASSUMED_SPEED, EngineName, Settings
from narration.speech_duration import expected_seconds


def estimate_cost(chunks: Sequence[PlannedChunk], settings: Settings, engine: EngineName) -> Estimate:
    """The expected seconds and price of the missing clips, each distinct clip counted once.

    The speed is that of a whole worker, all its slots together: neither their number nor that of the jobs
    that wait for one enters the price.
    """
    speech_seconds = sum(
        entry.clip.seconds if entry.clip else expected_seconds(entry.text) for entry in chunks
    )
    missing_texts = {entry.digest: entry.text for entry in chunks if entry.clip is None}
    missing_seconds = sum(expected_seconds(text) for text in missing_texts.values())
    speed = settings.speed or ASSUMED_SPEED
    paid = engine != "draft"
    gpu_seconds = missing_seconds / speed if paid else 0.0
    return Estimate(
        speech_seconds=speech_seconds,
        missing_seconds=missing_seconds,
        gpu_seconds=gpu_seconds,
        price=gpu_seconds * settings.price_per_second if paid else 0.0,
        price_per_second=settings.price_per_second if paid else 0.0,
        speed=speed,
        speed_measured=settings.speed is not None,
    )
