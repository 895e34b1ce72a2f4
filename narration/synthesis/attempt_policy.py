"""Decides what follows each attempt at a clip: another attempt, keeping a candidate, or failing."""

from __future__ import annotations

from dataclasses import dataclass

from narration.clip_identity import attempt_seed
from narration.errors import BadResult, BudgetError, EndpointError, NarrationError, QualityError
from narration.planning import PlannedChunk
from narration.synthesis.candidate import Attempt, Candidate, describe_faults
from narration.synthesis.clip_history import ClipHistory


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """At most `limit` attempts at a clip, each with another seed.

    The first candidate without faults is kept. After the last attempt it is the one with the best score.
    """

    limit: int

    def next_attempt(self, planned: PlannedChunk, history: ClipHistory) -> Attempt | None:
        """The attempt to make next; None when a candidate is kept, or no attempt is left."""
        number = max(history.first_attempt, 1 + max(history.refused, default=0))
        if history.kept is not None or number > self.limit:
            return None
        seed = planned.request.seed if number == 1 else None
        return Attempt(number, attempt_seed(planned.digest, number) if seed is None else seed)

    def after_candidate(self, candidate: Candidate, history: ClipHistory) -> None:
        """Keep a candidate without faults; refuse another, but remember the best."""
        if candidate.verdict.acceptable:
            history.kept = candidate
            return
        history.refuse(candidate.attempt, describe_faults(candidate.verdict))
        history.keep_better(candidate)

    def after_failure(self, attempt: Attempt, error: NarrationError, history: ClipHistory) -> None:
        """Go on after a failed attempt, or raise `error`.

        An unusable clip is a refused attempt. Any other failure is raised, for the task's retries to
        handle, unless an earlier attempt gave a candidate: it is paid for, so the failed attempt is
        refused, or, where another attempt would fail too, the best candidate is kept.
        """
        if isinstance(error, BadResult | QualityError):
            history.refuse(attempt, str(error))
        elif history.best is None or not isinstance(error, BudgetError | EndpointError):
            raise error
        elif error.retryable:
            history.refuse(attempt, str(error))
        else:
            history.kept = history.best

    def candidate_to_keep(self, history: ClipHistory) -> Candidate:
        """The candidate to store once no attempt is left; raises `QualityError` if there is none."""
        candidate = history.kept or history.best
        if candidate is None:
            reasons = "; ".join(
                f"attempt {number}: {refused['reason']}" for number, refused in history.refused.items()
            )
            raise QualityError(f"no attempt gave a usable clip: {reasons}", retryable=False)
        return candidate
