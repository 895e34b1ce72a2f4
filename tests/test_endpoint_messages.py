"""Reasons and other text from outside, made safe for a message: one line, bounded, without tracebacks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narration.endpoint import result_of
from narration.endpoint.jobs import parse_job
from narration.endpoint.messages import error_reason, one_line
from narration.errors import JobFailed

TRACEBACK = 'Traceback (most recent call last):\n  File "/secret/handler.py", line 3, in handler\n'


def failure(**response: object) -> JobFailed:
    """The error for a failed job with these fields."""
    with pytest.raises(JobFailed) as caught:
        result_of(parse_job("job-1", {"status": "FAILED", **response}))
    return caught.value


def test_an_exception_of_the_worker_is_shown_without_its_traceback() -> None:
    """Of the SDK's JSON text, type and last line are kept; the worker's file names are not."""
    exception = {
        "error_type": "<class 'torch.OutOfMemoryError'>",
        "error_message": "while decoding\nCUDA out of memory",
        "error_traceback": TRACEBACK,
        "hostname": "h",
    }
    error = failure(error=json.dumps(exception))
    assert error.message == "job job-1 failed: OutOfMemoryError: CUDA out of memory"
    assert error.retryable


def test_a_traceback_as_plain_text_is_cut_to_its_last_line() -> None:
    """The last line names the exception."""
    error = failure(error=TRACEBACK + "ValueError: no such voice\n")
    assert error.message == "job job-1 failed: ValueError: no such voice"


@pytest.mark.parametrize(
    ("reason", "expected"),
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
def test_a_failure_without_a_code_gives_its_reason_and_may_be_tried_again(
    reason: object, expected: str
) -> None:
    """Texts, lists and objects become one line; without a code the failure is not known to be final."""
    error = failure(error=reason)
    assert error.message == f"job job-1 failed: {expected}"
    assert (error.code, error.retryable) == ("", True)


def test_text_from_outside_cannot_forge_a_line() -> None:
    """Newlines, escapes and direction marks become spaces, and the length is bounded."""
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
def test_any_error_becomes_one_printable_line(error: object) -> None:
    """No JSON value makes the reader fail, or lets a control character through."""
    line = error_reason(error)
    assert line.isprintable()
    assert len(line) <= 500
