"""When a run's speech will be complete, from how fast it was synthesized in the last minute."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 60.0
"""How far back the rate is taken from: the first job of a run goes alone, and so says little."""


class RemainingTime:
    """The rate of synthesis over a moving window."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()  # (time, seconds of speech at hand)

    def add(self, now: float, speech_seconds: float) -> None:
        """Record that `speech_seconds` of speech are at hand at the time `now` (s, any fixed origin)."""
        self._samples.append((now, speech_seconds))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            self._samples.popleft()

    def estimate(self, expected_seconds: float) -> float | None:
        """Seconds until `expected_seconds` of speech are at hand; None before anything was synthesized."""
        if not self._samples:
            return None
        (began, before), (now, at_hand) = self._samples[0], self._samples[-1]
        if at_hand <= before or now <= began:
            return None
        return max(0.0, expected_seconds - at_hand) * (now - began) / (at_hand - before)
