"""Speech-server engine against a real server process: what is sent, what comes back, several at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import numpy as np
import pytest
from support.speech_engine import speech_engine
from support.speech_server import MODEL, VOICE, SpeechServer
from support.worker import decoded, handler, inline, job, sample, tone

from gpu_worker.engine_protocol import Engine
from narration.audio.files import decode
from narration.contract import SynthesisResult

TEXT = "The harbour was quiet, and nobody had expected that."
SAMPLE = {"audio_base64": inline(sample()), "audio_transcript": "A tone."}


def cloning(speech_server: SpeechServer, **settings: Any) -> Engine:
    """An engine that clones voice samples, by SGLang-Omni's fields."""
    return speech_engine(speech_server, api="sglang-omni", **settings)


async def speak(opened: Engine, **fields: Any) -> dict[str, Any]:
    """The handler's answer to one job."""
    return await handler(opened)(job(prompt=TEXT, **fields))


async def test_a_servers_own_voice_is_asked_for_in_openais_fields_alone(speech_server: SpeechServer) -> None:
    """Model, text, voice and format; a server that knows OpenAI's API gets no other field."""
    answer = await speak(speech_engine(speech_server, voice=VOICE), seed=5, temperature=0.7)
    result = SynthesisResult.model_validate(answer)
    assert speech_server.requests() == [
        {"model": MODEL, "input": TEXT, "voice": VOICE, "response_format": "wav"}
    ]
    assert (result.seed, result.finish_reason) == (5, "stop")
    assert decoded(answer)[0].size == result.frames * 960 == round(result.duration * 24_000)
    assert 2 < result.duration < 6
    assert result.engine["seed_sent"] is False


async def test_sglang_omni_gets_sample_transcript_seed_and_sampling(speech_server: SpeechServer) -> None:
    """The sample as a WAV of the same sound, in `references`."""
    answer = await speak(cloning(speech_server), **SAMPLE, seed=5, temperature=0.7, top_p=0.8, top_k=20)
    assert answer.get("seed") == 5, answer
    [request] = speech_server.requests()
    [reference] = request.pop("references")
    sampling = {"seed": 5, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    plain = {"model": MODEL, "input": TEXT, "response_format": "wav", "voice": "default"}
    assert request == plain | sampling
    assert reference["text"] == "A tone."
    header, _, encoded = reference["audio_path"].partition(",")
    assert header == "data:audio/wav;base64"
    waveform, rate = decode(base64.b64decode(encoded))
    assert rate == 24_000
    assert np.abs(waveform - tone(3.0)).max() < 1e-3


async def test_vllm_omni_gets_sample_transcript_and_seed(speech_server: SpeechServer) -> None:
    """The sample in `ref_audio`; sampling is the server's own, which takes none in a request."""
    answer = await speak(speech_engine(speech_server, api="vllm-omni"), **SAMPLE, seed=5, temperature=0.7)
    assert answer.get("seed") == 5, answer
    [request] = speech_server.requests()
    assert request.pop("ref_audio").startswith("data:audio/wav;base64,")
    plain = {"model": MODEL, "input": TEXT, "response_format": "wav"}
    assert request == plain | {"ref_text": "A tone.", "seed": 5}


async def test_the_servers_limit_of_length_is_a_second_beyond_the_requests(
    speech_server: SpeechServer,
) -> None:
    """With the model's tokens a second set: 250 frames are 10 s, and 11 s of 50 tokens are 550."""
    await speak(cloning(speech_server, tokens_per_second=50), max_new_tokens=250)
    assert speech_server.requests()[0]["max_new_tokens"] == 550


async def test_a_sample_is_loaded_once_for_all_requests_with_its_digest(speech_server: SpeechServer) -> None:
    """The second request names the digest only, with an address at which nothing answers."""
    opened = cloning(speech_server)
    first = await speak(opened, **SAMPLE)
    assert "audio_base64" in first, first
    digest = hashlib.sha256(sample()).hexdigest()
    unreachable = {"audio_url": "http://192.0.2.1/none.wav", "audio_sha256": digest}
    again = await speak(opened, **unreachable, audio_transcript="A tone.")
    assert "audio_base64" in again, again
    first_request, second_request = speech_server.requests()
    assert first_request["references"] == second_request["references"]


async def test_control_tokens_in_a_text_reach_the_server_as_characters(speech_server: SpeechServer) -> None:
    """Higgs Audio V3 would obey `<|emotion:anger|>`; with a space in it, it is read."""
    await handler(cloning(speech_server))(job(prompt="<|emotion:anger|>Quiet, please. 3 < 4 | 5."))
    assert speech_server.requests()[0]["input"] == "< |emotion:anger|>Quiet, please. 3 < 4 | 5."


@pytest.mark.parametrize(
    ("model", "audio_format"),
    [
        (MODEL, "flac"),
        (MODEL, "mp3"),
        (MODEL, "pcm"),
        ("stereo-44100", "wav"),
        ("stereo-44100", "flac"),
        ("stereo-44100", "mp3"),
        ("pcm-16000-stereo", "pcm"),
        ("always-wav", "mp3"),
        ("always-wav", "pcm"),
    ],
)
async def test_any_audio_becomes_the_same_clip_at_24_khz_mono(
    speech_server: SpeechServer, model: str, audio_format: str
) -> None:
    """Whatever container, rate and channels the server sends: same length, same sound as its WAV."""
    expected = decoded(await speak(speech_engine(speech_server, voice=VOICE)))[0]
    answer = await speak(speech_engine(speech_server, voice=VOICE, model=model, format=audio_format))
    assert "audio_base64" in answer, answer
    samples, rate = decoded(answer)
    assert rate == 24_000
    assert abs(samples.size - expected.size) <= 2 * 960 + 1_200  # an MP3 begins and ends with some silence
    spectra = [
        np.abs(np.fft.rfft(clip, 1 << 18))[:60_000].reshape(-1, 100).sum(1) for clip in (samples, expected)
    ]
    assert np.corrcoef(*spectra)[0, 1] > 0.97


async def test_a_clip_beyond_the_requests_frames_is_cut_and_said_to_be(speech_server: SpeechServer) -> None:
    """The server knows no frames: the clip has exactly those asked for, and `length`."""
    answer = await speak(speech_engine(speech_server, voice=VOICE), max_new_tokens=25)
    assert (answer["frames"], answer["finish_reason"], answer["duration"]) == (25, "length", 1.0)


async def test_a_clip_that_the_server_says_it_cut_is_said_to_be_cut(speech_server: SpeechServer) -> None:
    """By the header `X-Audio-Truncated`, though it is shorter than the request's frames."""
    answer = await speak(speech_engine(speech_server, voice=VOICE, model="says-truncated"))
    assert answer["finish_reason"] == "length"


async def test_no_more_requests_are_sent_at_once_than_there_are_slots(speech_server: SpeechServer) -> None:
    """Twelve jobs on three slots: three at the server, and each says how long it waited."""
    handle = handler(speech_engine(speech_server, voice=VOICE, slots=3))
    jobs = [job(prompt=f"Job number {number}, in some words.") for number in range(12)]
    answers = await asyncio.gather(*map(handle, jobs))
    assert all("audio_base64" in answer for answer in answers)
    assert speech_server.most_at_once() == 3
    assert max(answer["timings"]["queue"] for answer in answers) > 0.01


async def test_a_sample_for_a_server_with_its_own_voice_is_refused(speech_server: SpeechServer) -> None:
    """The clip would not be in the sample's voice; nothing is sent."""
    answer = await speak(speech_engine(speech_server, voice=VOICE), **SAMPLE)
    assert (answer["error_code"], answer["retryable"]) == ("invalid_input", False)
    assert VOICE in answer["error"]
    assert speech_server.requests() == []


async def test_a_chunk_to_continue_from_is_refused(speech_server: SpeechServer) -> None:
    """Servers take none, and a clip made without it would be stored as one made with it."""
    answer = await speak(
        cloning(speech_server), previous_text="Before.", previous_audio_base64=inline(sample())
    )
    assert (answer["error_code"], answer["retryable"]) == ("invalid_input", False)
    assert "NARRATION_CONTINUITY" in answer["error"]
    assert speech_server.requests() == []
