"""What a job's last answer amounts to: its clip, or the error that says whether trying again helps."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.endpoint import WAV, clip_output, completed

from narration import audio
from narration.endpoint import Job, JobPolicy, JobStatus, result_of
from narration.endpoint.jobs import parse_job
from narration.endpoint.messages import error_reason, one_line
from narration.errors import (
    BadAudio,
    BadResult,
    EndpointError,
    JobCancelled,
    JobFailed,
    JobLost,
    JobTimedOut,
    SettingsError,
)

TRACEBACK = 'Traceback (most recent call last):\n  File "/secret/handler.py", line 3, in handler\n'


def ended(document: dict[str, Any]) -> Job:
    return parse_job("job-1", document)


def failure(**document: object) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        result_of(ended({"status": "FAILED", **document}))
    return caught.value


def test_a_completed_job_gives_its_clip_with_the_platforms_figures() -> None:
    """The audio is decoded, and what RunPod counted comes along."""
    told = {"delayTime": 61_372, "executionTime": 2_004, "retries": 1, "workerId": "w-9"}
    got = result_of(ended(completed(clip_output()) | told))
    assert got.audio == WAV
    assert (got.job_id, got.delay_ms, got.execution_ms) == ("job-1", 61_372, 2_004)
    assert (got.retries, got.worker_id) == (1, "w-9")
    assert (got.result.seed, got.result.finish_reason) == (7, "stop")


@pytest.mark.parametrize("document", [{"status": "COMPLETED"}, {"status": "COMPLETED", "output": None}])
def test_a_job_completed_without_output_is_lost_and_may_be_submitted_again(document: dict[str, Any]) -> None:
    """RunPod says COMPLETED of a job whose result it would not take: that is no success."""
    with pytest.raises(JobLost) as caught:
        result_of(ended(document))
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
def test_an_output_outside_the_contract_is_a_bad_result_that_names_no_value(output: object) -> None:
    """Missing, wrong, undecodable or cut-off fields are refused; the message stays short."""
    with pytest.raises(BadResult) as caught:
        result_of(ended(completed(output)))
    assert caught.value.retryable
    assert "job-1" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_truncated_wav_is_let_through_and_refused_by_the_room_that_decodes() -> None:
    """Containers are the audio room's: a cut file with whole base64 reaches it and fails there."""
    cut = base64.b64encode(WAV[:-100]).decode()
    got = result_of(ended(completed(clip_output(audio_base64=cut))))
    with pytest.raises(BadAudio):
        audio.decode(got.audio)


def test_an_error_inside_a_completed_output_is_the_workers_failure() -> None:
    """A worker that answers with an error has not made a clip, whatever the status says."""
    output = {"error": "prompt: too long", "error_code": "invalid_input", "retryable": False}
    with pytest.raises(JobFailed, match="prompt: too long") as caught:
        result_of(ended(completed(output)))
    assert caught.value.code == "invalid_input"
    assert not caught.value.retryable


def test_a_typed_failure_keeps_its_code_and_its_verdict() -> None:
    """The SDK moves `error` out of the worker's answer; the code and the verdict stay in `output`."""
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
def test_a_worker_that_gives_no_verdict_is_judged_by_its_code(
    output: dict[str, object], retryable: bool
) -> None:
    """The worker's word counts; without it the contract's list of codes, and a strange code is final."""
    assert failure(error="no", output=output).retryable is retryable


def test_an_exception_of_the_worker_is_named_without_its_traceback() -> None:
    """The SDK's JSON text is read: kind and last line are kept, file names of the worker are not."""
    told = {
        "error_type": "<class 'torch.OutOfMemoryError'>",
        "error_message": "while decoding\nCUDA out of memory",
        "error_traceback": TRACEBACK,
        "hostname": "h",
    }
    error = failure(error=json.dumps(told))
    assert error.message == "job job-1 failed: OutOfMemoryError: CUDA out of memory"
    assert error.retryable


def test_a_traceback_as_plain_text_is_cut_to_what_was_raised() -> None:
    """Of a traceback in words only its last line is kept."""
    error = failure(error=TRACEBACK + "ValueError: no such voice\n")
    assert error.message == "job job-1 failed: ValueError: no such voice"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("boom", "boom"),
        (["prompt is required", {"message": "seed is odd"}], "prompt is required; seed is odd"),
        ({"message": "engine died", "type": "x"}, "engine died"),
        ({"message": {"error": "engine died"}}, "engine died"),
        ({"code": 7}, '{"code": 7}'),
        ('{"detail": "cut', '{"detail": "cut'),
        (17, "17"),
        (None, "no reason given"),
        ("", "no reason given"),
        ([], "no reason given"),
        ([[[[[["buried"]]]]]], "no reason given"),
        ("[" * 5_000, "[" * 499 + "…"),
    ],
)
def test_an_untyped_failure_says_what_it_can_and_may_be_tried_again(told: object, expected: str) -> None:
    """Texts, lists and objects become one line; without a code nobody knows that it is final."""
    error = failure(error=told)
    assert error.message == f"job job-1 failed: {expected}"
    assert (error.code, error.retryable) == ("", True)


def test_a_job_given_up_after_a_redispatch_may_be_tried_again() -> None:
    """'job timed out after 1 retries' is the platform's failure: its worker died, or never answered."""
    error = failure(error="job timed out after 1 retries", retries=1, delayTime=101_050)
    assert "job timed out after 1 retries" in str(error)
    assert error.retryable


def test_timed_out_and_cancelled_are_errors_of_their_own() -> None:
    """The platform's giving up may be tried again; somebody's cancelling is not undone by itself."""
    with pytest.raises(JobTimedOut) as timed_out:
        result_of(ended({"status": "TIMED_OUT"}))
    with pytest.raises(JobCancelled) as cancelled:
        result_of(ended({"status": "CANCELLED", "output": clip_output()}))
    assert timed_out.value.retryable
    assert not cancelled.value.retryable


@pytest.mark.parametrize("status", ["IN_QUEUE", "IN_PROGRESS", "RUNNING", "PAUSED_FOR_LUNCH", "completed"])
def test_a_job_that_goes_on_has_no_result_and_shows_no_output(status: str) -> None:
    """Progress shown while running is not kept, and a status nobody knows is not the end."""
    job = ended({"status": status, "output": clip_output()})
    assert not job.status.terminal
    assert job.output is None
    with pytest.raises(ValueError, match="has not ended"):
        result_of(job)


def test_exactly_four_statuses_are_the_end() -> None:
    """The terminal set is RunPod's own."""
    assert {status for status in JobStatus if status.terminal} == {
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
        JobStatus.TIMED_OUT,
    }


@pytest.mark.parametrize("value", [None, "soon", True, -1, float("inf"), [3]])
def test_figures_that_are_no_numbers_count_as_not_told(value: object) -> None:
    """A strange delay, execution time or retry count does not cost a clip that is there."""
    told = {"delayTime": value, "executionTime": value, "retries": value, "workerId": value}
    job = ended(completed(clip_output()) | told)
    assert (job.delay_ms, job.execution_ms, job.retries) == (None, None, 0)
    assert result_of(job).audio == WAV


@pytest.mark.parametrize("document", [{}, {"status": None}, {"status": 3}])
def test_an_answer_without_a_status_is_no_answer(document: dict[str, Any]) -> None:
    """It is refused where it is read, for the client to ask again."""
    with pytest.raises(ValueError, match="status"):
        ended(document)


def test_words_from_outside_cannot_forge_a_line() -> None:
    """Newlines, escapes and direction marks become spaces, and length is bounded."""
    forged = "oops\r\n2026-11-20 INFO all is well\x1b[2K\u2028next\u202eeslaf\x00"
    line = one_line(forged)
    assert line == "oops 2026-11-20 INFO all is well [2K next eslaf"
    assert len(one_line("x" * 10_000_000)) == 500
    assert "\n" not in str(failure(error=forged))
    assert "\n" not in str(failure(error="x", output={"error_code": "a\nb"}))


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_error_whatever_reads_as_one_printable_line(error: object) -> None:
    """No JSON value makes the reader fail, nor lets a control character through."""
    line = error_reason(error)
    assert line.isprintable()
    assert len(line) <= 500


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
def test_any_last_answer_is_a_clip_or_an_error_of_the_tree(document: dict[str, Any]) -> None:
    """Whatever a job ends with, nothing but the documented errors comes out."""
    try:
        assert result_of(ended(document)).audio
    except EndpointError as error:
        assert error.message.isprintable()  # noqa: PT017  # both ways out are right; each has its claim


def test_a_clip_is_not_shown_in_full_by_anything_that_holds_it() -> None:
    """Megabytes of audio stay out of every repr, and so out of logs."""
    job = ended(completed(clip_output()))
    assert len(repr(job)) < 300
    assert len(repr(result_of(job))) < 300


def test_a_policy_is_sent_in_milliseconds() -> None:
    """RunPod counts in milliseconds, this project in seconds."""
    assert JobPolicy(5, 10).to_json() == {"executionTimeout": 5_000, "ttl": 10_000}
    assert JobPolicy(604_800, 604_800).to_json() == {"executionTimeout": 604_800_000, "ttl": 604_800_000}


@pytest.mark.parametrize(
    ("execution", "ttl"), [(4.9, 60), (604_801, 60), (60, 9.9), (60, 604_801), (float("nan"), 60), (60, -1)]
)
def test_a_policy_outside_runpods_ranges_is_refused(execution: float, ttl: float) -> None:
    """5 s to 7 days of running, 10 s to 7 days of life: RunPod would refuse or ignore others."""
    with pytest.raises(SettingsError):
        JobPolicy(execution, ttl)
