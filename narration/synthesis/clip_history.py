"""What one clip has cost and brought so far, over as many calls as its maker's patience takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from narration.store import RefusedAttempt
from narration.synthesis.candidate import Candidate


@dataclass(slots=True)
class ClipHistory:
    """Of one clip, from its first job until it is stored."""

    jobs: list[str] = field(default_factory=list)  # ids of those submitted
    paid: set[str] = field(default_factory=set)  # of those whose seconds are counted
    execution_seconds: float = 0.0
    refused: dict[int, RefusedAttempt] = field(default_factory=dict)  # by attempt
    best: Candidate | None = None  # of those refused
    kept: Candidate | None = None  # on its way to the store

    def first(self, recorded: int) -> int:
        """The attempt to begin with, where the job on record is of the attempt `recorded`."""
        return max(recorded, 1 + max(self.refused, default=0))

    def refuse(self, attempt: int, seed: int, reason: str) -> None:
        """Note why an attempt was not kept."""
        self.refused[attempt] = RefusedAttempt(attempt=attempt, seed=seed, reason=reason)

    def keep_better(self, candidate: Candidate) -> None:
        """Remember a doubtful attempt, if none so far was less so."""
        if self.best is None or candidate.verdict.score > self.best.verdict.score:
            self.best = candidate

    def pay(self, job_id: str, execution_ms: float | None) -> float:
        """The worker seconds to pay for a job that ended, well or not.

        Once, however often its end is told, and nothing for a job of another run.
        """
        if job_id not in self.jobs or job_id in self.paid or execution_ms is None:
            return 0.0
        self.paid.add(job_id)
        self.execution_seconds += execution_ms / 1000
        return execution_ms / 1000
