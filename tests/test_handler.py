"""Handler: jobs become clips or typed failures by the contract, without RunPod."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.worker import MODEL, ToneEngine, decoded, handler, inline, job, sample

from narration.contract import (
    ContractError,
    ErrorCode,
    SynthesisFailure,
    SynthesisRequest,
    SynthesisResult,
)

PUBLISHED = {
    "prompt": "Five words make a chunk.",
    "temperature": 0.3,
    "top_p": 0.95,
    "top_k": 50,
    "max_new_tokens": 1024,
    "seed": 7,
}


async def test_the_published_fields_alone_give_a_clip() -> None:
    """A request with no field beyond the published interface succeeds."""
    answer = await handler()(job(**PUBLISHED))
    result = SynthesisResult.model_validate(answer)
    samples, rate = decoded(answer)
    assert rate == result.sample_rate == 24_000
    assert samples.size == result.frames * 960 == round(result.duration * 24_000)
    assert (result.finish_reason, result.seed, result.model) == ("stop", 7, MODEL)
    assert result.engine == {"engine": "tone"}


async def test_flac_holds_the_same_samples_as_wav() -> None:
    """`audio_format` changes the container and not one sample."""
    wav = await handler()(job(**PUBLISHED))
    flac = await handler()(job(**PUBLISHED, audio_format="flac"))
    assert base64.b64decode(flac["audio_base64"])[:4] == b"fLaC"
    assert np.array_equal(decoded(wav)[0], decoded(flac)[0])


async def test_a_request_for_another_model_is_refused_naming_both() -> None:
    """The worker refuses a request for another model before the engine gets it."""
    engine = ToneEngine()
    answer = await handler(engine)(job(prompt="x", model="higgs/other"))
    assert answer["error_code"] == ErrorCode.MODEL_MISMATCH
    assert answer["retryable"] is False
    assert "higgs/other" in answer["error"]
    assert MODEL in answer["error"]
    assert engine.requests == []


async def test_a_request_that_names_this_model_succeeds() -> None:
    """As one that names none."""
    assert "audio_base64" in await handler()(job(prompt="x", model=MODEL))


async def test_a_sample_without_transcript_gets_the_workers() -> None:
    """`VOICE_SAMPLE_TRANSCRIPT` is used for a request without a transcript, and only then."""
    engine = ToneEngine()
    clone = {"prompt": "x", "audio_base64": inline(sample())}
    await handler(engine, voice_sample_transcript="From the settings.")(job(**clone))
    await handler(engine, voice_sample_transcript="From the settings.")(
        job(**clone, audio_transcript="Mine.")
    )
    assert [request.audio_transcript for request in engine.requests] == ["From the settings.", "Mine."]


async def test_a_sample_without_any_transcript_is_refused() -> None:
    """Without the request's and the worker's transcript no voice can be cloned; the setting is named."""
    answer = await handler()(job(prompt="x", audio_base64=inline(sample())))
    assert answer["error_code"] == ErrorCode.TRANSCRIPT_MISSING
    assert "VOICE_SAMPLE_TRANSCRIPT" in answer["error"]


async def test_no_transcript_is_needed_without_a_sample() -> None:
    """The model's own voice needs none."""
    assert "audio_base64" in await handler()(job(prompt="x"))


@pytest.mark.parametrize(
    ("job_input", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  \n"}, "prompt"),
        ({"prompt": "\x00\x07"}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x", "temperature": "0.3"}, "temperature"),
        ({"prompt": "x", "temperature": math.nan}, "temperature"),
        ({"prompt": "x", "top_p": 0}, "top_p"),
        ({"prompt": "x", "top_k": True}, "top_k"),
        ({"prompt": "x", "max_new_tokens": 0}, "max_new_tokens"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": "x", "speed": 2}, "speed"),
        ({"prompt": "x", "audio_url": "file:///etc/passwd"}, "audio_url"),
        ({"prompt": "x", "audio_url": "https://a.example", "audio_base64": "AAAA"}, "audio_base64"),
        ({"prompt": "x", "audio_base64": "not base64!", "audio_transcript": "t"}, "audio_base64"),
        (None, "input"),
        (["prompt"], "input"),
    ],
)
async def test_bad_input_is_refused_naming_its_field(job_input: Any, field: str) -> None:
    """A violation of the contract is a failure that is not retryable and names the field."""
    answer = await handler()({"id": "job-1", "input": job_input})
    assert answer["error_code"] == ErrorCode.INVALID_INPUT
    assert answer["retryable"] is False
    assert field in answer["error"]


async def test_a_job_without_input_is_refused() -> None:
    """RunPod removes an empty input, so that the job comes without the key."""
    assert (await handler()({"id": "job-1"}))["error_code"] == ErrorCode.INVALID_INPUT


async def test_a_waveform_that_is_not_finite_is_a_failure() -> None:
    """NaN from the engine is a retryable engine failure."""
    waveform = np.full(960, np.nan, np.float32)
    answer = await handler(ToneEngine(waveform=waveform))(job(prompt="x"))
    assert answer["error_code"] == ErrorCode.ENGINE_FAILURE
    assert answer["retryable"] is True
    assert "finite" in answer["error"]


async def test_an_empty_waveform_is_a_failure() -> None:
    """No samples are an engine failure."""
    answer = await handler(ToneEngine(waveform=np.zeros(0, np.float32)))(job(prompt="x"))
    assert answer["error_code"] == ErrorCode.ENGINE_FAILURE


async def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    """Samples above 1 become the largest int16; wrapping would be a loud click."""
    waveform = np.tile(np.array([1.5, -1.5], np.float32), 480)
    samples, _ = decoded(await handler(ToneEngine(waveform=waveform))(job(prompt="x")))
    assert samples[0] == 32_767
    assert samples[1] == -32_767


async def test_a_clip_larger_than_runpod_carries_is_a_typed_failure() -> None:
    """RunPod would lose the result; the job fails with a reason instead."""
    waveform = np.random.default_rng(1).uniform(-1, 1, 24_000 * 200).astype(np.float32)
    answer = await handler(ToneEngine(waveform=waveform))(job(prompt="x"))
    assert answer["error_code"] == ErrorCode.REQUEST_TOO_LONG
    assert "flac" in answer["error"]


async def test_a_clip_of_two_minutes_fits_as_wav() -> None:
    """The longest chunk of the pipeline is below RunPod's limit in the largest format."""
    waveform = np.random.default_rng(1).uniform(-1, 1, 24_000 * 120).astype(np.float32)
    answer = await handler(ToneEngine(waveform=waveform))(job(prompt="x"))
    assert len(json.dumps(answer)) < 10_000_000
    assert answer["duration"] == 120


async def test_a_contract_error_of_the_engine_reaches_the_client_unchanged() -> None:
    """Message, code and retryability are the engine's."""
    engine = ToneEngine()
    engine.failure = ContractError(ErrorCode.OUT_OF_MEMORY, "no room for another row")
    answer = await handler(engine)(job(prompt="x"))
    assert answer == {"error": "no room for another row", "error_code": "out_of_memory", "retryable": True}


TEXT = st.text(st.characters(), max_size=20)  # with lone surrogates, which JSON can escape
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(SynthesisRequest.model_fields)) | TEXT, JSON, max_size=6)


@settings(max_examples=300, deadline=None)
@given(job_input=JSON | FIELDS | FIELDS.map(lambda fields: {"prompt": "spoken"} | fields))
@example(job_input={"prompt": "spoken", "\ud800": 1})
@example(job_input={"prompt": "spoken", "model": "\ud800"})
@example(job_input={"prompt": "spoken", "audio_url": "https://\ud800/", "audio_transcript": "t"})
@example(job_input={"prompt": "spoken", "audio_url": "https://xn--a/", "audio_transcript": "t"})
def test_any_json_gets_a_clip_or_a_typed_failure(job_input: Any) -> None:
    """No input makes the handler return what the contract does not know or the SDK cannot post."""
    answer = asyncio.run(handler()({"id": "job-1", "input": job_input}))
    json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()
    assert answer.get("error_code") != ErrorCode.ENGINE_FAILURE  # ToneEngine does not fail
    if "error" in answer:
        assert ErrorCode(SynthesisFailure.model_validate(answer).error_code)
    else:
        SynthesisResult.model_validate(answer)
