"""The jobs, costs and attempts of one clip, from its first job until it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from narration.store import RefusedAttempt
from narration.synthesis.candidate import Attempt, Candidate


@dataclass(slots=True)
class ClipHistory:
    """What a run knows of one clip that it makes. Kept while its task is retried."""

    first_attempt: int = 1  # later where the job on record belongs to a later attempt
    jobs: list[str] = field(default_factory=list)  # ids of the submitted jobs
    paid: set[str] = field(default_factory=set)  # ids of the jobs whose execution is paid
    execution_seconds: float = 0.0
    refused: dict[int, RefusedAttempt] = field(default_factory=dict)  # by the attempt's number
    best: Candidate | None = None  # of the refused ones
    kept: Candidate | None = None  # to be stored

    def refuse(self, attempt: Attempt, reason: str) -> None:
        """Note why an attempt was refused."""
        self.refused[attempt.number] = RefusedAttempt(
            attempt=attempt.number, seed=attempt.seed, reason=reason
        )

    def keep_better(self, candidate: Candidate) -> None:
        """Keep a refused candidate as the best so far if its score is higher."""
        if self.best is None or candidate.verdict.score > self.best.verdict.score:
            self.best = candidate

    def pay(self, job_id: str, execution_ms: float | None) -> float:
        """Count a job that ended, well or not; returns the seconds of execution to pay for.

        These are zero for a job that was paid before and for a job of another run.
        """
        if job_id not in self.jobs or job_id in self.paid or execution_ms is None:
            return 0.0
        self.paid.add(job_id)
        self.execution_seconds += execution_ms / 1000
        return execution_ms / 1000
