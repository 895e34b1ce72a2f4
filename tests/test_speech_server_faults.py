"""Speech-server engine: what each fault of a server becomes, how long it may take, and what leaks nowhere."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any

import pytest
from support.speech_engine import speech_engine
from support.speech_server import KEY, VOICE, SpeechServer
from support.worker import handler, job

from gpu_worker.speech_server import engine as engine_module

TEXT = "The harbour was quiet, and nobody had expected that."


async def failure(server: SpeechServer, model: str, **settings: Any) -> dict[str, Any]:
    """The answer to a job whose server has the fault `model`; a failure without the key in it."""
    opened = speech_engine(server, voice=VOICE, model=model, **settings)
    answer = await handler(opened)(job(prompt=TEXT, max_new_tokens=500))
    assert set(answer) == {"error", "error_code", "retryable"}, answer.keys()
    assert KEY not in answer["error"]
    return answer


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_busy_or_failing_server_may_be_asked_again(speech_server: SpeechServer, status: int) -> None:
    """With the status and the server's own words, in which its key is replaced."""
    answer = await failure(speech_server, f"status-{status}")
    assert (answer["error_code"], answer["retryable"]) == ("engine_failure", True)
    assert answer["error"] == f"the speech server answered {status}: no, Bearer ***"


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_request_that_the_server_refuses_is_not_repeated(
    speech_server: SpeechServer, status: int
) -> None:
    """The settings to look at are named, and the server's words quoted."""
    answer = await failure(speech_server, f"status-{status}")
    assert (answer["error_code"], answer["retryable"]) == ("speech_server_refused", False)
    assert f"answered {status}: " in answer["error"]
    assert "WORKER_SPEECH_URL, _MODEL" in answer["error"]
    assert answer["error"].endswith("no, Bearer ***")


@pytest.mark.parametrize("key", ["sk-another", None])
async def test_a_wrong_or_missing_key_is_named_without_being_quoted(
    speech_server: SpeechServer, key: str | None
) -> None:
    """The setting is named; not even the server's words are, which may quote a part of the key."""
    answer = await failure(speech_server, "espeak", key=key)
    assert (answer["error_code"], answer["retryable"]) == ("speech_server_refused", False)
    assert answer["error"] == "the speech server answered 401: set WORKER_SPEECH_KEY to its key"


async def test_a_redirect_is_not_followed(speech_server: SpeechServer) -> None:
    """Key and sample would go to another host: the setting is named, and one request was made."""
    answer = await failure(speech_server, "redirect")
    assert (answer["error_code"], answer["retryable"]) == ("speech_server_refused", False)
    assert "answered 307: it redirects: set WORKER_SPEECH_URL" in answer["error"]
    assert len(speech_server.requests()) == 1


@pytest.mark.parametrize(
    ("model", "audio_format", "reason"),
    [
        ("json", "wav", "sent application/json instead of audio: the model is still loading"),
        ("json-as-audio", "wav", "sent JSON instead of audio"),
        ("json-as-audio", "pcm", "sent JSON instead of audio"),
        ("html", "wav", "sent text/html instead of audio"),
        ("empty", "wav", "not audio in WAV"),
        ("empty", "pcm", "holds no samples"),
        ("no-samples", "wav", "holds no samples"),
        ("truncated", "wav", "truncated"),
        ("odd-pcm", "pcm", "truncated"),
        ("odd-pcm", "wav", "not audio in WAV"),
        ("connection-lost", "wav", "connection was lost (RemoteProtocolError)"),
        ("gzip", "wav", "compresses its answer"),
    ],
)
async def test_what_is_no_intact_audio_is_a_failure_and_no_clip(
    speech_server: SpeechServer, model: str, audio_format: str, reason: str
) -> None:
    """A success by its status, with something else than speech in it: the reason says what."""
    answer = await failure(speech_server, model, format=audio_format)
    assert (answer["error_code"], answer["retryable"]) == ("engine_failure", True)
    assert reason in answer["error"]


@pytest.mark.parametrize("model", ["hang", "drip"])
async def test_a_server_that_hangs_or_drips_is_given_up_in_time(
    speech_server: SpeechServer, model: str
) -> None:
    """The limit is for the whole answer, not between two bytes of it; the server loses its client."""
    began = time.monotonic()
    answer = await failure(speech_server, model, timeout=1.0)
    assert time.monotonic() - began < 30  # on a loaded machine; a drip would take hours
    assert (answer["error_code"], answer["retryable"]) == ("engine_failure", True)
    assert "within 1 s" in answer["error"]
    if model == "hang":
        await _until_idle(speech_server)


async def test_an_endless_answer_is_cut_off(
    speech_server: SpeechServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read than the request's frames can need, whatever the server goes on sending."""
    monkeypatch.setattr(engine_module, "SPARE_SECONDS", 1)
    answer = await failure(speech_server, "endless")
    assert (answer["error_code"], answer["retryable"]) == ("engine_failure", True)
    assert "sent more than 8064000 bytes" in answer["error"]


async def test_a_server_that_is_not_there_may_be_asked_again() -> None:
    """Nothing listens at its port."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = SpeechServer(f"http://127.0.0.1:{unused.getsockname()[1]}")
        answer = await failure(nowhere, "espeak")
    assert (answer["error_code"], answer["retryable"]) == ("engine_failure", True)
    assert "cannot be reached" in answer["error"]


async def test_a_cancelled_job_ends_at_the_server_and_frees_its_slot(speech_server: SpeechServer) -> None:
    """The connection is closed; on the one slot the next job is sent."""
    opened = speech_engine(speech_server, voice=VOICE, model="hang", slots=1)
    tasks = [asyncio.create_task(handler(opened)(job(prompt=f"Text {number}."))) for number in range(2)]
    await _until(speech_server, requests=1)
    tasks[0].cancel()
    await _until(speech_server, requests=2)
    assert [request["input"] for request in speech_server.requests()] == ["Text 0.", "Text 1."]
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await _until_idle(speech_server)


@pytest.mark.parametrize("model", ["espeak", "status-500", "status-400", "redirect", "hang"])
async def test_the_log_holds_no_key_and_no_text(
    speech_server: SpeechServer, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At any level, of this code, httpx and what is below it."""
    opened = speech_engine(speech_server, voice=VOICE, model=model, timeout=1.0)
    assert KEY not in repr(opened.configuration)
    assert KEY not in opened.model
    with caplog.at_level(logging.INFO):
        await handler(opened)(job(prompt=TEXT))
    assert KEY not in caplog.text
    assert "harbour" not in caplog.text


async def _until(server: SpeechServer, *, requests: int) -> None:
    async with asyncio.timeout(60):
        while len(await asyncio.to_thread(server.requests)) < requests:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)


async def _until_idle(server: SpeechServer) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(server.at_once):  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.05)
