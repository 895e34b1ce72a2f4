"""The attempt policy: which attempt follows, which candidate is kept, which failure is raised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.plans import FLAC, plan_of

from narration.audio.quality import QualityFlag, QualityVerdict, Severity
from narration.clip_identity import attempt_seed
from narration.contract import SynthesisResult
from narration.endpoint import JobResult
from narration.errors import (
    BadResult,
    BudgetError,
    Damaged,
    EndpointUnavailable,
    JobFailed,
    NarrationError,
    QualityError,
)
from narration.planning import PlannedChunk
from narration.synthesis.attempt_policy import AttemptPolicy
from narration.synthesis.candidate import Attempt, Candidate
from narration.synthesis.clip_history import ClipHistory

THREE = AttemptPolicy(3)


@pytest.fixture
def planned(tmp_path: Path) -> PlannedChunk:
    return plan_of(tmp_path, [1]).chunks[0]


@pytest.fixture
def history() -> ClipHistory:
    return ClipHistory()


def candidate(number: int, score: float, *, fault: bool = True) -> Candidate:
    """The candidate of attempt `number`, with or without a fault."""
    result = SynthesisResult(
        audio_base64="AA==",
        duration=1.0,
        sample_rate=24_000,
        finish_reason="stop",
        frames=25,
        seed=number,
        model="draft/1",
    )
    severity = Severity.FAULT if fault else Severity.NOTE
    verdict = QualityVerdict((QualityFlag("clipping", f"in attempt {number}", severity),), score)
    return Candidate(Attempt(number, number), JobResult(result, FLAC, f"job-{number}"), FLAC, 24_000, verdict)


def test_each_attempt_has_a_seed_of_its_own(planned: PlannedChunk, history: ClipHistory) -> None:
    """The seeds are derived from the digest, so that a repeated run makes the same attempts."""
    for number in (1, 2, 3):
        attempt = THREE.next_attempt(planned, history)
        assert attempt == Attempt(number, attempt_seed(planned.digest, number))
        THREE.after_candidate(candidate(number, 0.5), history)
    assert THREE.next_attempt(planned, history) is None


def test_a_seed_that_a_person_asked_for_is_used_once(planned: PlannedChunk, history: ClipHistory) -> None:
    """A second attempt with the same seed would give the same clip."""
    seeded = replace(planned, request=planned.request.model_copy(update={"seed": 7}))
    assert THREE.next_attempt(seeded, history) == Attempt(1, 7)
    THREE.after_candidate(candidate(1, 0.5), history)
    assert THREE.next_attempt(seeded, history) == Attempt(2, attempt_seed(planned.digest, 2))


def test_the_first_attempt_is_that_of_the_job_on_record(planned: PlannedChunk, history: ClipHistory) -> None:
    """An earlier process refused the attempts before it."""
    history.first_attempt = 2
    attempt = THREE.next_attempt(planned, history)
    assert attempt is not None
    assert attempt.number == 2


def test_a_candidate_without_faults_is_kept_at_once(planned: PlannedChunk, history: ClipHistory) -> None:
    """No further attempt is paid, and the refused one is on record."""
    THREE.after_candidate(candidate(1, 0.9), history)
    good = candidate(2, 0.4, fault=False)
    THREE.after_candidate(good, history)
    assert THREE.next_attempt(planned, history) is None
    assert THREE.candidate_to_keep(history) is good
    assert [entry["reason"] for entry in history.refused.values()] == ["clipping: in attempt 1"]


def test_after_the_last_attempt_the_best_candidate_is_kept(
    planned: PlannedChunk, history: ClipHistory
) -> None:
    """Of three candidates with faults, the one with the highest score."""
    best = candidate(2, 0.8)
    for each in (candidate(1, 0.3), best, candidate(3, 0.5)):
        THREE.after_candidate(each, history)
    assert THREE.next_attempt(planned, history) is None
    assert THREE.candidate_to_keep(history) is best


@pytest.mark.parametrize("error", [BadResult("no audio"), QualityError("silent")])
def test_an_unusable_clip_is_a_refused_attempt(
    planned: PlannedChunk, history: ClipHistory, error: NarrationError
) -> None:
    """The next attempt follows, and after the last the error names every reason."""
    for number in (1, 2, 3):
        attempt = THREE.next_attempt(planned, history)
        assert attempt is not None
        assert attempt.number == number
        THREE.after_failure(attempt, error, history)
    with pytest.raises(
        QualityError, match=f"attempt 1: {error}; attempt 2: {error}; attempt 3: {error}"
    ) as none:
        THREE.candidate_to_keep(history)
    assert not none.value.retryable


@pytest.mark.parametrize(
    "error",
    [EndpointUnavailable("away"), JobFailed("broken"), BudgetError("too much"), Damaged("altered")],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_without_a_candidate_is_raised(history: ClipHistory, error: NarrationError) -> None:
    """The task's retries decide what follows; the attempt is not refused and will be made again."""
    with pytest.raises(type(error)):
        THREE.after_failure(Attempt(1, 1), error, history)
    assert not history.refused


def test_a_transient_failure_after_a_candidate_costs_one_attempt(
    planned: PlannedChunk, history: ClipHistory
) -> None:
    """The candidate is paid for: the next attempt follows instead of another try of this one."""
    THREE.after_candidate(candidate(1, 0.5), history)
    THREE.after_failure(Attempt(2, 2), EndpointUnavailable("away"), history)
    attempt = THREE.next_attempt(planned, history)
    assert attempt is not None
    assert attempt.number == 3


@pytest.mark.parametrize("error", [JobFailed("broken"), BudgetError("too much")])
def test_a_final_failure_after_a_candidate_keeps_the_best(
    planned: PlannedChunk, history: ClipHistory, error: NarrationError
) -> None:
    """A clip with faults that is paid for is better than none."""
    first = candidate(1, 0.5)
    THREE.after_candidate(first, history)
    THREE.after_failure(Attempt(2, 2), error, history)
    assert THREE.next_attempt(planned, history) is None
    assert THREE.candidate_to_keep(history) is first


def test_damaged_context_is_raised_even_with_a_candidate(history: ClipHistory) -> None:
    """Only failures of the endpoint and the budget are settled with a candidate; a store's are not."""
    THREE.after_candidate(candidate(1, 0.5), history)
    with pytest.raises(Damaged):
        THREE.after_failure(Attempt(2, 2), Damaged("altered"), history)
