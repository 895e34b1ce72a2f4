"""The contract: what is refused, and what identifies a clip."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from narration.contract import (
    ContractError,
    ErrorCode,
    SynthesisRequest,
    attempt_seed,
    digest,
    parse_request,
)
from narration.errors import ChunksFailed, JobFailed

SHA = "a" * 64
FULL: dict[str, Any] = {
    "prompt": "One sentence.",
    "audio_base64": "AAAA",
    "audio_sha256": SHA,
    "audio_transcript": "What the sample says.",
    "model": "higgs/1",
}

CHANGES: dict[str, Any] = {
    "prompt": "Another sentence.",
    "temperature": 0.4,
    "top_p": 0.9,
    "top_k": 49,
    "seed": 7,
    "audio_transcript": "What it says instead.",
    "audio_sha256": "b" * 64,
    "system_prompt": "Speak.",
    "scene": "A hall.",
    "ras_win_len": 0,
    "ras_win_max_num_repeat": 1,
    "model": "higgs/2",
}
OUTSIDE: dict[str, Any] = {
    "audio_base64": "BBBB",
    "max_new_tokens": 300,
    "audio_format": "flac",
}


def request(**changes: Any) -> SynthesisRequest:
    return parse_request(FULL | changes)


def test_the_published_fields_alone_make_a_request() -> None:
    """Clients that know only the first seven fields keep working."""
    asked = parse_request(
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
    assert asked.cloned


def test_same_inputs_have_the_same_digest() -> None:
    """Identity is a function of the request alone; this value may change only with the contract version."""
    assert digest(request()) == digest(request())
    assert digest(request()) == "0418e16037641687c100cdf584a56ad12d9bb54b85633a8efce4336c9c0ae37b"


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_that_can_change_the_waveform_changes_the_digest(field: str) -> None:
    """No clip is ever taken for another's."""
    assert digest(request(**{field: CHANGES[field]})) != digest(request())


def test_take_and_context_change_the_digest() -> None:
    """Another take, and another clip before it, is another clip."""
    assert len({digest(request()), digest(request(), take=2), digest(request(), previous=SHA)}) == 3


@pytest.mark.parametrize("field", OUTSIDE)
def test_what_cannot_change_the_waveform_does_not_change_the_digest(field: str) -> None:
    """Where the sample comes from, the cap and the container are not identity."""
    assert digest(request(**{field: OUTSIDE[field]})) == digest(request())


def test_every_field_of_the_request_is_known_to_be_inside_or_outside_identity() -> None:
    """A field added later must be placed here on purpose."""
    placed = set(CHANGES) | set(OUTSIDE) | {"audio_url", "previous_text", "previous_audio_base64"}
    assert placed == set(SynthesisRequest.model_fields)


def test_a_sample_by_url_and_inline_is_one_identity() -> None:
    """The sample's SHA-256 says what it is; the way it travels does not."""
    by_url = {key: value for key, value in FULL.items() if key != "audio_base64"}
    assert digest(parse_request(by_url | {"audio_url": "https://example.com/v.wav"})) == digest(request())


@pytest.mark.parametrize("missing", ["model", "audio_sha256", "audio_transcript"])
def test_an_open_identity_is_refused(missing: str) -> None:
    """What the worker would have to fill in cannot be hashed."""
    with pytest.raises(ValueError, match="identity"):
        digest(parse_request({key: value for key, value in FULL.items() if key != missing}))


def test_equal_numbers_are_one_identity() -> None:
    """A temperature of 1 and of 1.0 ask for the same clip."""
    assert digest(request(temperature=1)) == digest(request(temperature=1.0))


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
    """The sender learns which field to mend, and that trying again is no use."""
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
    """Nothing a stranger sends raises anything but the contract's own error, in one line."""
    try:
        parsed = parse_request(job_input)
    except ContractError as refusal:
        failure = refusal.failure
    else:
        assert parse_request(json.loads(parsed.model_dump_json())) == parsed
        return
    assert failure.error_code == ErrorCode.INVALID_INPUT
    assert failure.error.isprintable()


def test_attempt_seeds_differ_and_repeat() -> None:
    """A retry says something else than the try before, and says the same whenever it is made again."""
    seeds = [attempt_seed(SHA, attempt) for attempt in range(1, 20)]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [attempt_seed(SHA, attempt) for attempt in range(1, 20)]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_errors_survive_pickling() -> None:
    """Prefect and process borders move exceptions by pickle; what they say must arrive."""
    failed = pickle.loads(pickle.dumps(JobFailed("no", code="out_of_memory", retryable=True, remedy="wait")))
    assert (failed.code, failed.retryable, str(failed)) == ("out_of_memory", True, "no (wait)")
    chunks = pickle.loads(pickle.dumps(ChunksFailed("2 chunks", failures={3: "gone"})))
    assert chunks.failures == {3: "gone"}
