"""A job that has ended: its clip, or an error that says whether submitting it again may help."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.fake_runpod import WAV, clip_output, completed

from narration import audio
from narration.endpoint import Job, result_of
from narration.endpoint.jobs import parse_job
from narration.errors import (
    BadAudio,
    BadResult,
    EndpointError,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
)


def ended(response: dict[str, Any]) -> Job:
    """The job that this response to /status describes."""
    return parse_job("job-1", response)


def failure(**response: object) -> JobFailed:
    """The error for a failed job with these fields."""
    with pytest.raises(JobFailed) as caught:
        result_of(ended({"status": "FAILED", **response}))
    return caught.value


def test_a_completed_job_has_its_clip_and_the_platforms_timings() -> None:
    """The audio's base64 is decoded, and delay, execution, retries and worker are kept."""
    timings = {"delayTime": 61_372, "executionTime": 2_004, "retries": 1, "workerId": "w-9"}
    result = result_of(ended(completed(clip_output()) | timings))
    assert result.audio == WAV
    assert (result.job_id, result.delay_ms, result.execution_ms) == ("job-1", 61_372, 2_004)
    assert (result.retries, result.worker_id) == (1, "w-9")
    assert (result.result.seed, result.result.finish_reason) == (7, "stop")


@pytest.mark.parametrize(
    ("execution_ms", "queue_seconds", "slot_ms"),
    [(6_000, 1.5, 4_500), (6_000, 0, 6_000), (6_000, 7, 0), (6_000, -1, 6_000), (None, 1.5, None)],
)
def test_a_jobs_wait_for_a_slot_in_its_worker_is_not_paid(
    execution_ms: int | None, queue_seconds: float, slot_ms: float | None
) -> None:
    """RunPod counts it as execution, and the worker says how long it was."""
    response = completed(clip_output(timings={"queue": queue_seconds})) | {"executionTime": execution_ms}
    assert result_of(ended(response)).slot_ms == slot_ms


@pytest.mark.parametrize("response", [{"status": "COMPLETED"}, {"status": "COMPLETED", "output": None}])
def test_a_job_completed_without_output_is_lost_and_may_be_submitted_again(response: dict[str, Any]) -> None:
    """RunPod shows COMPLETED for a job whose result it refused: that is no success."""
    with pytest.raises(JobLost) as caught:
        result_of(ended(response))
    assert caught.value.retryable


@pytest.mark.parametrize(
    "output",
    [
        "a string",
        [clip_output()],
        17,
        {},
        clip_output(audio_base64=None),
        clip_output(audio_base64=""),
        clip_output(audio_base64=17),
        clip_output(audio_base64="not base64!"),
        clip_output(audio_base64="é" * 8),
        clip_output(audio_base64=base64.b64encode(WAV).decode()[:-3]),
        clip_output(audio_base64=base64.b64encode(WAV).decode() + "\n"),
        clip_output(duration=None),
        clip_output(duration=0),
        clip_output(duration=float("nan")),
        clip_output(sample_rate="fast"),
        clip_output(finish_reason="tired"),
        clip_output(frames=-1),
        clip_output(engine={"speed": float("inf")}),
    ],
)
def test_an_output_outside_the_contract_is_a_bad_result_with_a_short_message(output: object) -> None:
    """Missing, wrong, undecodable or cut-off fields are refused; their values are not in the message."""
    with pytest.raises(BadResult) as caught:
        result_of(ended(completed(output)))
    assert caught.value.retryable
    assert "job-1" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_truncated_wav_is_refused_where_it_is_decoded() -> None:
    """A cut-off file in complete base64 is passed on, and the audio room refuses it."""
    cut_off = base64.b64encode(WAV[:-100]).decode()
    result = result_of(ended(completed(clip_output(audio_base64=cut_off))))
    with pytest.raises(BadAudio):
        audio.decode(result.audio)


def test_an_error_inside_a_completed_output_is_the_workers_failure() -> None:
    """A worker that returns an error has made no clip, whatever the status says."""
    output = {"error": "prompt: too long", "error_code": "invalid_input", "retryable": False}
    with pytest.raises(JobFailed, match="prompt: too long") as caught:
        result_of(ended(completed(output)))
    assert caught.value.code == "invalid_input"
    assert not caught.value.retryable


def test_a_failure_with_a_code_keeps_the_code_and_whether_to_try_again() -> None:
    """The SDK moves `error` out of the worker's output; `error_code` and `retryable` stay in it."""
    error = failure(error="the sample is silent", output={"error_code": "sample_silent", "retryable": False})
    assert (error.code, error.retryable) == ("sample_silent", False)
    assert "the sample is silent" in str(error)
    assert "narrate voice check" in error.remedy


@pytest.mark.parametrize(
    ("output", "retryable"),
    [
        ({"error_code": "out_of_memory", "retryable": True}, True),
        ({"error_code": "out_of_memory"}, True),
        ({"error_code": "invalid_input"}, False),
        ({"error_code": "invalid_input", "retryable": "yes"}, False),
        ({"error_code": "something_new", "retryable": True}, True),
        ({"error_code": "something_new"}, False),
    ],
)
def test_the_code_decides_whether_to_try_again_if_the_worker_does_not_say(
    output: dict[str, object], retryable: bool
) -> None:
    """The worker's `retryable` counts; without it the contract's codes do, and an unknown code is final."""
    assert failure(error="no", output=output).retryable is retryable


def test_a_job_that_failed_after_a_second_dispatch_may_be_tried_again() -> None:
    """'job timed out after 1 retries' is the platform's failure: the worker died or never answered."""
    error = failure(error="job timed out after 1 retries", retries=1, delayTime=101_050)
    assert "job timed out after 1 retries" in str(error)
    assert error.retryable


def test_timed_out_and_cancelled_jobs_are_errors_of_their_own() -> None:
    """A job that the platform timed out may be tried again; one that somebody cancelled may not."""
    with pytest.raises(JobTimedOut) as timed_out:
        result_of(ended({"status": "TIMED_OUT"}))
    with pytest.raises(JobCancelled) as cancelled:
        result_of(ended({"status": "CANCELLED", "output": clip_output()}))
    assert timed_out.value.retryable
    assert not cancelled.value.retryable


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED"])},
        optional={
            "error": st.text() | st.lists(st.text()),
            "output": st.none()
            | st.text()
            | st.dictionaries(
                st.sampled_from([*clip_output(), "error", "error_code", "retryable"]),
                st.none() | st.text() | st.integers() | st.booleans(),
            ),
            "delayTime": st.floats() | st.text() | st.integers(),
        },
    )
)
@example({"status": "COMPLETED", "output": clip_output(), "delayTime": 10**400})
@example({"status": "FAILED", "retries": 10**400, "executionTime": -(10**400)})
def test_any_ended_job_is_a_clip_or_an_endpoint_error(response: dict[str, Any]) -> None:
    """Whatever the response holds, no other error is raised."""
    try:
        assert result_of(ended(response)).audio
    except EndpointError as error:
        assert error.message.isprintable()  # noqa: PT017  # a clip and an error are both right


def test_a_clip_is_in_no_repr() -> None:
    """Megabytes of audio stay out of every repr, and so out of logs."""
    job = ended(completed(clip_output()))
    assert len(repr(job)) < 300
    assert len(repr(result_of(job))) < 300
