"""The handler: what RunPod's loop calls, without RunPod."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.worker import MODEL, ToneSpeaker, decoded, file, handler, inline, job, sample, serving

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
    """A request with the published interface's fields and nothing else is spoken."""
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
    """A worker never answers for a model that it does not run, and does not begin to."""
    speaker = ToneSpeaker()
    answer = await handler(speaker)(job(prompt="x", model="higgs/other"))
    assert answer["error_code"] == ErrorCode.MODEL_MISMATCH
    assert answer["retryable"] is False
    assert "higgs/other" in answer["error"]
    assert MODEL in answer["error"]
    assert speaker.requests == []


async def test_a_request_for_this_model_is_spoken() -> None:
    """Naming the model that the worker runs changes nothing."""
    assert "audio_base64" in await handler()(job(prompt="x", model=MODEL))


async def test_a_sample_without_transcript_takes_the_workers_own() -> None:
    """`VOICE_SAMPLE_TRANSCRIPT` stands in for a missing transcript, and only for a missing one."""
    speaker = ToneSpeaker()
    clone = {"prompt": "x", "audio_base64": inline(sample())}
    await handler(speaker, voice_sample_transcript="From the settings.")(job(**clone))
    await handler(speaker, voice_sample_transcript="From the settings.")(
        job(**clone, audio_transcript="Mine.")
    )
    assert [request.audio_transcript for request in speaker.requests] == ["From the settings.", "Mine."]


async def test_a_sample_without_any_transcript_is_refused() -> None:
    """Without the request's and the worker's transcript there is nothing to clone by."""
    answer = await handler()(job(prompt="x", audio_base64=inline(sample())))
    assert answer["error_code"] == ErrorCode.TRANSCRIPT_MISSING
    assert "VOICE_SAMPLE_TRANSCRIPT" in answer["error"]


async def test_a_transcript_is_not_asked_for_without_a_sample() -> None:
    """The model's own voice needs no transcript."""
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
    """Whatever does not fit the contract is a final failure that says which field."""
    answer = await handler()({"id": "job-1", "input": job_input})
    assert answer["error_code"] == ErrorCode.INVALID_INPUT
    assert answer["retryable"] is False
    assert field in answer["error"]


async def test_a_job_without_input_is_refused() -> None:
    """RunPod drops an empty input, and the job arrives without the key."""
    assert (await handler()({"id": "job-1"}))["error_code"] == ErrorCode.INVALID_INPUT


async def test_a_waveform_that_is_not_finite_never_leaves() -> None:
    """NaN from an engine is its failure, not a clip of clicks."""
    waveform = np.full(960, np.nan, np.float32)
    answer = await handler(ToneSpeaker(waveform=waveform))(job(prompt="x"))
    assert answer["error_code"] == ErrorCode.ENGINE_FAILURE
    assert answer["retryable"] is True
    assert "finite" in answer["error"]


async def test_an_empty_waveform_never_leaves() -> None:
    """No samples are the engine's failure."""
    answer = await handler(ToneSpeaker(waveform=np.zeros(0, np.float32)))(job(prompt="x"))
    assert answer["error_code"] == ErrorCode.ENGINE_FAILURE


async def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    """An engine's overshoot stays at full scale; an int16 that wraps is a loud crack."""
    waveform = np.tile(np.array([1.5, -1.5], np.float32), 480)
    samples, _ = decoded(await handler(ToneSpeaker(waveform=waveform))(job(prompt="x")))
    assert samples[0] == 32_767
    assert samples[1] == -32_767


async def test_a_clip_larger_than_runpod_carries_is_a_typed_failure() -> None:
    """A result that RunPod would lose is answered with a reason instead."""
    waveform = np.random.default_rng(1).uniform(-1, 1, 24_000 * 200).astype(np.float32)
    answer = await handler(ToneSpeaker(waveform=waveform))(job(prompt="x"))
    assert answer["error_code"] == ErrorCode.REQUEST_TOO_LONG
    assert "flac" in answer["error"]


async def test_a_clip_of_two_minutes_fits_as_wav() -> None:
    """The longest chunk the pipeline asks for passes in the plainest format."""
    waveform = np.random.default_rng(1).uniform(-1, 1, 24_000 * 120).astype(np.float32)
    answer = await handler(ToneSpeaker(waveform=waveform))(job(prompt="x"))
    assert len(json.dumps(answer)) < 10_000_000
    assert answer["duration"] == 120


async def test_an_engines_refusal_goes_out_as_it_is() -> None:
    """What an engine says in the contract's words reaches the client unchanged."""
    speaker = ToneSpeaker()
    speaker.failure = ContractError(ErrorCode.OUT_OF_MEMORY, "no room for another row")
    answer = await handler(speaker)(job(prompt="x"))
    assert answer == {"error": "no room for another row", "error_code": "out_of_memory", "retryable": True}


async def test_an_unforeseen_error_is_typed_and_leaves_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client learns what broke, the log where; the log learns nothing that was said."""
    speaker = ToneSpeaker()
    speaker.failure = RuntimeError("CUDA error while speaking 'my secret prompt'\nat once, in \udcff.bin")
    with caplog.at_level(logging.DEBUG):
        answer = await handler(speaker)(job(prompt="my secret prompt"))
    failure = SynthesisFailure.model_validate(answer)
    assert failure.error_code == ErrorCode.ENGINE_FAILURE
    assert "CUDA error" in failure.error
    assert "Traceback" not in failure.error
    assert failure.error.isprintable()
    json.dumps(answer, ensure_ascii=False).encode()  # as the SDK posts it
    assert "RuntimeError" in caplog.text
    assert "worker.py" in caplog.text
    assert "secret" not in caplog.text


async def test_the_log_never_holds_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    """Texts and signed addresses are other people's; log lines name jobs, codes and figures."""
    with caplog.at_level(logging.DEBUG), serving(file(sample())) as url:
        await handler()(job(prompt="spoken words", seed=3))
        await handler()(job(prompt="spoken words", temperature="hot words"))
        for allowed in (True, False):
            await handler(allow_private_urls=allowed)(
                job(
                    prompt="spoken words", audio_url=f"{url}?signature=hidden", audio_transcript="heard words"
                )
            )
    assert "job-1" in caplog.text
    for secret in ("words", "hidden"):
        assert secret not in caplog.text


async def test_one_jobs_failure_leaves_its_neighbours_alone() -> None:
    """Jobs share a loop and an engine, and nothing else."""
    handle = handler()
    jobs = [job(prompt="good"), job(prompt=""), job(prompt="good"), job(prompt="x", model="other")]
    answers = await asyncio.gather(*(handle(each) for each in jobs))
    assert ["audio_base64" in answer for answer in answers] == [True, False, True, False]


async def test_jobs_are_spoken_at_the_same_time() -> None:
    """The handler holds nothing that would make one job wait for another."""
    speaker = ToneSpeaker()
    speaker.pause = 0.2
    handle = handler(speaker)
    await asyncio.gather(*(handle(job(prompt="x")) for _ in range(10)))
    assert speaker.most_at_once == 10


async def test_a_stopped_job_is_cancelled_in_the_engine() -> None:
    """RunPod's stop reaches the engine as a cancellation, and no answer is made up for it."""
    speaker = ToneSpeaker()
    speaker.pause = 300
    task = asyncio.create_task(handler(speaker)(job(prompt="x")))
    async with asyncio.timeout(60):
        while not speaker.requests:  # noqa: ASYNC110  # the twin of an engine has no events
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert speaker.cancelled == 1


async def test_a_sample_is_not_fetched_for_a_voice_the_engine_knows() -> None:
    """The sample is loaded when the engine asks for it: on a cache hit nothing is downloaded."""
    speaker = ToneSpeaker()
    speaker.loads_samples = False
    asked: list[str] = []
    with serving(lambda request: asked.append(request.path)) as url:
        answer = await handler(speaker, allow_private_urls=True)(
            job(prompt="x", audio_url=url, audio_transcript="t", audio_sha256="0" * 64)
        )
    assert "audio_base64" in answer
    assert asked == []


async def test_timings_say_where_the_time_went() -> None:
    """The engine's own seconds, its queue among them, within a total that covers the whole job."""
    speaker = ToneSpeaker()
    speaker.pause = 0.1
    timings = (await handler(speaker)(job(prompt="x")))["timings"]
    assert timings["decode"] == 0.5
    assert 0.25 <= timings["queue"] < 60
    assert 0.1 <= timings["total"] < 60


TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too, which JSON can escape
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
    """Nothing that can be sent makes the handler answer outside the contract, or what the SDK cannot post."""
    answer = asyncio.run(handler()({"id": "job-1", "input": job_input}))
    json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()
    assert answer.get("error_code") != ErrorCode.ENGINE_FAILURE  # there is no engine here that could fail
    if "error" in answer:
        assert ErrorCode(SynthesisFailure.model_validate(answer).error_code)
    else:
        SynthesisResult.model_validate(answer)


def test_the_model_id_is_printed_without_loading_an_engine() -> None:
    """`python -m gpu_worker model-id` tells what to ask for, quickly and with no audio library."""
    code = (
        "import sys; from gpu_worker.__main__ import main; main(['model-id']);"
        "print({'torch', 'runpod', 'soundfile', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"WORKER_ENGINE": "draft"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split("\n")[:2] == ["draft/espeak-ng-1.52/engine-2", "set()"]


def test_a_wrong_setting_is_named() -> None:
    """A worker that is set up wrongly says which variable, in one line."""
    done = subprocess.run(
        [sys.executable, "-m", "gpu_worker", "model-id"],
        env={"WORKER_ENGINE": "draft", "WORKER_SLOTS": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("WORKER_SLOTS: ")
    assert done.stderr.count("\n") == 1
