"""The identity of a clip: which fields change its digest, and the seeds of its attempts."""

from __future__ import annotations

from typing import Any

import pytest
from support.synthesis_requests import FULL, SHA, request

from narration.clip_identity import attempt_seed, digest
from narration.contract import SynthesisRequest, parse_request

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
NOT_IN_DIGEST: dict[str, Any] = {
    "audio_base64": "BBBB",
    "max_new_tokens": 300,
    "audio_format": "flac",
}


def test_same_inputs_have_the_same_digest() -> None:
    """The digest depends on the request alone; this value may change only with the contract version."""
    assert digest(request()) == digest(request())
    assert digest(request()) == "0418e16037641687c100cdf584a56ad12d9bb54b85633a8efce4336c9c0ae37b"


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_that_can_change_the_waveform_changes_the_digest(field: str) -> None:
    """Two requests for different audio never share a clip."""
    assert digest(request(**{field: CHANGES[field]})) != digest(request())


def test_take_and_context_change_the_digest() -> None:
    """Another take, or another clip as context, is another clip."""
    assert len({digest(request()), digest(request(), take=2), digest(request(), previous=SHA)}) == 3


@pytest.mark.parametrize("field", NOT_IN_DIGEST)
def test_what_cannot_change_the_waveform_does_not_change_the_digest(field: str) -> None:
    """The source of the sample, the frame cap and the audio format are not part of the digest."""
    assert digest(request(**{field: NOT_IN_DIGEST[field]})) == digest(request())


def test_attempt_seeds_differ_and_repeat() -> None:
    """Each attempt has another seed, and the same attempt always has the same seed."""
    seeds = [attempt_seed(SHA, attempt) for attempt in range(1, 20)]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [attempt_seed(SHA, attempt) for attempt in range(1, 20)]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_every_field_of_the_request_is_placed_inside_or_outside_the_digest() -> None:
    """A field added to the request must be added to one of the two lists."""
    placed = set(CHANGES) | set(NOT_IN_DIGEST) | {"audio_url", "previous_text", "previous_audio_base64"}
    assert placed == set(SynthesisRequest.model_fields)


def test_a_sample_by_url_and_inline_has_one_digest() -> None:
    """A sample is identified by its SHA-256, whether it is sent inline or by URL."""
    by_url = {key: value for key, value in FULL.items() if key != "audio_base64"}
    assert digest(parse_request(by_url | {"audio_url": "https://example.com/v.wav"})) == digest(request())


@pytest.mark.parametrize("missing", ["model", "audio_sha256", "audio_transcript"])
def test_a_request_that_does_not_determine_its_clip_has_no_digest(missing: str) -> None:
    """A model, sample digest or transcript that the worker would fill in cannot be hashed."""
    with pytest.raises(ValueError, match="identity"):
        digest(parse_request({key: value for key, value in FULL.items() if key != missing}))


def test_equal_numbers_have_one_digest() -> None:
    """Temperatures of 1 and 1.0 ask for the same clip."""
    assert digest(request(temperature=1)) == digest(request(temperature=1.0))
