"""A job as read from a response to /status, and the policy sent with a submission."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_runpod import WAV, clip_output, completed

from narration.endpoint import JobPolicy, JobStatus, result_of
from narration.endpoint.jobs import parse_job
from narration.errors import SettingsError


@pytest.mark.parametrize("status", ["IN_QUEUE", "IN_PROGRESS", "RUNNING", "PAUSED_FOR_LUNCH", "completed"])
def test_a_job_that_has_not_ended_has_no_result_and_no_output(status: str) -> None:
    """Output shown while a job runs is dropped, and an unknown status is not the end."""
    job = parse_job("job-1", {"status": status, "output": clip_output()})
    assert not job.status.terminal
    assert job.output is None
    with pytest.raises(ValueError, match="has not ended"):
        result_of(job)


def test_exactly_four_statuses_are_terminal() -> None:
    """They are those of RunPod."""
    assert {status for status in JobStatus if status.terminal} == {
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
        JobStatus.TIMED_OUT,
    }


@pytest.mark.parametrize("value", [None, "soon", True, -1, float("inf"), [3]])
def test_timings_that_are_not_numbers_are_ignored(value: object) -> None:
    """A malformed delay, execution time or retry count does not cost a clip."""
    timings = {"delayTime": value, "executionTime": value, "retries": value, "workerId": value}
    job = parse_job("job-1", completed(clip_output()) | timings)
    assert (job.delay_ms, job.execution_ms, job.retries) == (None, None, 0)
    assert result_of(job).audio == WAV


@pytest.mark.parametrize("response", [{}, {"status": None}, {"status": 3}])
def test_a_response_without_a_status_is_refused(response: dict[str, Any]) -> None:
    """The client then asks again."""
    with pytest.raises(ValueError, match="status"):
        parse_job("job-1", response)


def test_a_policy_is_sent_in_milliseconds() -> None:
    """RunPod counts in milliseconds, this project in seconds."""
    assert JobPolicy(5, 10).to_json() == {"executionTimeout": 5_000, "ttl": 10_000}
    assert JobPolicy(604_800, 604_800).to_json() == {"executionTimeout": 604_800_000, "ttl": 604_800_000}


@pytest.mark.parametrize(
    ("execution", "ttl"), [(4.9, 60), (604_801, 60), (60, 9.9), (60, 604_801), (float("nan"), 60), (60, -1)]
)
def test_a_policy_outside_runpods_ranges_is_refused(execution: float, ttl: float) -> None:
    """5 s to 7 days of execution, 10 s to 7 days to live: RunPod would refuse or ignore other values."""
    with pytest.raises(SettingsError):
        JobPolicy(execution, ttl)
