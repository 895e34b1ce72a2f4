"""The contract with the worker: which requests are accepted, and which are refused how."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.synthesis_requests import request

from narration.contract import ContractError, ErrorCode, SynthesisRequest, parse_request


def test_the_published_fields_alone_make_a_request() -> None:
    """Clients that send only the first seven fields keep working."""
    parsed = parse_request(
        {
            "prompt": "Hello.",
            "audio_url": "https://example.com/v.wav",
            "temperature": 0.3,
            "top_p": 0.95,
            "top_k": 50,
            "max_new_tokens": 1024,
            "seed": 1,
        }
    )
    assert parsed.cloned


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": "\x00\x07"}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"temperature": "0.3"}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 50.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"audio_url": "file:///etc/passwd", "audio_base64": None}, "audio_url"),
        ({"audio_url": "https://example.com/v.wav"}, "audio_url and audio_base64"),
        ({"audio_sha256": "abc"}, "audio_sha256"),
        ({"audio_format": "mp3"}, "audio_format"),
        ({"previous_text": "Before."}, "previous_text and previous_audio_base64"),
        ({"speed": 2}, "speed"),
    ],
)
def test_wrong_input_is_refused_naming_the_field(changes: dict[str, Any], field: str) -> None:
    """The refusal names the wrong field and says that trying again does not help."""
    with pytest.raises(ContractError) as caught:
        request(**changes)
    failure = caught.value.failure
    assert failure.error_code == ErrorCode.INVALID_INPUT
    assert not failure.retryable
    assert field in failure.error


json_text = st.text(st.characters())  # lone surrogates too, which JSON can escape
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | json_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_text, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(SynthesisRequest.model_fields)) | json_text, json_values)
    | json_values
)
@example({"prompt": "x", "\x1b[2J\r": 1})
def test_any_json_is_a_request_or_a_typed_refusal(job_input: Any) -> None:
    """Any JSON is either a request or refused with the contract's own error, in one printable line."""
    try:
        parsed = parse_request(job_input)
    except ContractError as refusal:
        failure = refusal.failure
    else:
        assert parse_request(json.loads(parsed.model_dump_json())) == parsed
        return
    assert failure.error_code == ErrorCode.INVALID_INPUT
    assert failure.error.isprintable()
