"""A speech server in a process of its own: OpenAI's `/v1/audio/speech`, spoken by espeak-ng, with faults.

`python speech_server.py` prints its port, then serves until killed. It takes the fields of OpenAI, of
vLLM-Omni and of SGLang-Omni, and checks those that it takes. The model's name says how it answers: `espeak`
well, any other as the function of that name in `FAULTS`. `SPEECH_SERVER_KEY` is the key that it asks for.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import soundfile
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from gpu_worker.draft.engine import DraftEngine
from narration.audio.files import decode, resample
from narration.contract import SynthesisRequest

MODEL = "espeak"
VOICE = "en-narrator"
KEY = "sk-the-key-of-the-speech-server"
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "pcm": "audio/pcm"}

Speech = NDArray[np.float32]
Fault = Callable[[Request, Speech], Awaitable[Response]]


class SpeechServer:
    """A running server, as tests see it."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/v1"
        self._url = url

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of the requests that it has received, oldest first."""
        return list(self._seen()["requests"])

    def most_at_once(self) -> int:
        """The most requests that it had at one moment."""
        return int(self._seen()["most_at_once"])

    def at_once(self) -> int:
        """The requests that it has now: one whose client has gone is not among them."""
        return int(self._seen()["at_once"])

    def forget(self) -> None:
        """Forget the requests received so far."""
        httpx.delete(f"{self._url}/seen", trust_env=False).raise_for_status()

    def _seen(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self._url}/seen", trust_env=False).raise_for_status().json())


@contextmanager
def running_speech_server() -> Iterator[SpeechServer]:
    """Run a server until the block ends."""
    environment = os.environ | {"SPEECH_SERVER_KEY": KEY}
    process = subprocess.Popen(
        [sys.executable, "-P", __file__], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield SpeechServer(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.communicate()


class _Server:
    """The application's state and its one endpoint."""

    def __init__(self) -> None:
        self._engine = DraftEngine(slots=64)
        self._requests: list[dict[str, Any]] = []
        self._at_once = 0
        self._most_at_once = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/audio/speech", self._speech, methods=["POST"]),
                Route("/seen", self._seen, methods=["GET", "DELETE"]),
            ]
        )

    async def _speech(self, request: Request) -> Response:
        self._at_once += 1
        self._most_at_once = max(self._most_at_once, self._at_once)
        try:
            await request.body()  # first: looking for a disconnection would take it from the connection
            answering = asyncio.create_task(self._answer(request))
            while not answering.done():
                if await request.is_disconnected():
                    answering.cancel()
                    return Response(status_code=499)
                await asyncio.wait([answering], timeout=0.05)
            return answering.result()
        finally:
            self._at_once -= 1

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {os.environ['SPEECH_SERVER_KEY']}":
            return _error(401, f"wrong key: {request.headers.get('authorization')}")
        body = await request.json()
        self._requests.append(body)
        if problem := _problem(body):
            return _error(400, problem)
        fault = FAULTS.get(body["model"])
        if fault is None and body["model"] != MODEL:
            return _error(404, f"the model {body['model']!r} does not exist")
        spoken = await self._engine.synthesize(
            SynthesisRequest(prompt=body["input"], seed=body.get("seed"), max_new_tokens=8_192), None
        )
        request.state.body = body
        return await (fault or _well)(request, spoken.waveform)

    async def _seen(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._requests.clear()
            self._most_at_once = self._at_once
        return JSONResponse(
            {"requests": self._requests, "at_once": self._at_once, "most_at_once": self._most_at_once}
        )


def _problem(body: dict[str, Any]) -> str:
    """What is wrong with a request's fields; empty if nothing is."""
    if not isinstance(body.get("input"), str) or not body["input"].strip():
        return "input must be a non-empty string"
    if body.get("response_format") not in MEDIA_TYPES:
        return "response_format is not known"
    if "voice" in body and body["voice"] not in {VOICE, "default"}:
        return f"the voice {body['voice']!r} does not exist"
    samples = [reference["audio_path"] for reference in body.get("references", [])]
    samples += [body["ref_audio"]] if "ref_audio" in body else []
    for sample in samples:
        try:
            header, _, encoded = sample.partition(",")
            assert header == "data:audio/wav;base64"
            decode(base64.b64decode(encoded, validate=True))
        except Exception as error:  # noqa: BLE001  # whatever it is, the sample is bad
            return f"the voice sample is no audio: {error}"
    return ""


def _encoded(speech: Speech, rate: int, container: str) -> bytes:
    if container == "pcm":
        return (speech * 32_767).astype("<i2").tobytes()
    target = io.BytesIO()
    subtype = None if container == "mp3" else "PCM_16"
    soundfile.write(target, speech, rate, format=container.upper(), subtype=subtype)
    return target.getvalue()


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "test", "code": status}}, status_code=status)


async def _well(request: Request, speech: Speech) -> Response:
    container = request.state.body["response_format"]
    return Response(_encoded(speech, 24_000, container), media_type=MEDIA_TYPES[container])


async def _stereo_44100(request: Request, speech: Speech) -> Response:
    container = request.state.body["response_format"]
    left = resample(speech, 24_000, 44_100)
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    return Response(_encoded(stereo, 44_100, container), media_type=MEDIA_TYPES[container])


async def _always_wav(_request: Request, speech: Speech) -> Response:
    return Response(_encoded(speech, 24_000, "wav"))


async def _pcm_16000_stereo(_request: Request, speech: Speech) -> Response:
    stereo = np.repeat(resample(speech, 24_000, 16_000)[:, None], 2, axis=1)
    return Response(_encoded(stereo, 16_000, "pcm"), media_type="audio/pcm;rate=16000;channels=2")


async def _hang(_request: Request, _speech: Speech) -> Response:
    await asyncio.sleep(3600)
    raise AssertionError


async def _drip(_request: Request, speech: Speech) -> Response:
    async def bytes_now_and_then() -> AsyncIterator[bytes]:
        for byte in _encoded(speech, 24_000, "wav"):
            yield bytes([byte])
            await asyncio.sleep(0.2)

    return StreamingResponse(bytes_now_and_then(), media_type="audio/wav")


async def _endless(_request: Request, _speech: Speech) -> Response:
    async def zeros() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)
            await asyncio.sleep(0)  # or nothing else would run here once the client is gone

    return StreamingResponse(zeros(), media_type="audio/wav")


async def _json(_request: Request, _speech: Speech) -> Response:
    return JSONResponse({"error": "the model is still loading"})


async def _json_as_audio(_request: Request, _speech: Speech) -> Response:
    return Response(json.dumps({"audio": "UklGRg=="}), media_type="audio/pcm")


async def _html(_request: Request, _speech: Speech) -> Response:
    return PlainTextResponse("<html>gateway</html>", media_type="text/html")


async def _empty(_request: Request, _speech: Speech) -> Response:
    return Response(b"", media_type="audio/wav")


async def _no_samples(request: Request, speech: Speech) -> Response:
    return await _well(request, speech[:0])


async def _truncated(_request: Request, speech: Speech) -> Response:
    data = _encoded(speech, 24_000, "wav")
    return Response(data[: len(data) // 2], media_type="audio/wav")


async def _odd_pcm(_request: Request, speech: Speech) -> Response:
    return Response(_encoded(speech, 24_000, "pcm")[:-1], media_type="audio/pcm")


async def _connection_lost(_request: Request, speech: Speech) -> Response:
    data = _encoded(speech, 24_000, "wav")
    return Response(data[: len(data) // 2], headers={"Content-Length": str(len(data))})


async def _gzip(_request: Request, speech: Speech) -> Response:
    data = gzip.compress(_encoded(speech, 24_000, "wav"))
    return Response(data, media_type="audio/wav", headers={"Content-Encoding": "gzip"})


async def _says_truncated(_request: Request, speech: Speech) -> Response:
    return Response(_encoded(speech, 24_000, "wav"), headers={"X-Audio-Truncated": "true"})


async def _redirect(request: Request, _speech: Speech) -> Response:
    return RedirectResponse(f"http://localhost:{request.url.port}/v1/audio/speech", status_code=307)


def _status(status: int) -> Fault:
    async def answer(request: Request, _speech: Speech) -> Response:
        return _error(status, f"no, {request.headers.get('authorization')}")

    return answer


FAULTS: dict[str, Fault] = {
    "stereo-44100": _stereo_44100,
    "always-wav": _always_wav,
    "pcm-16000-stereo": _pcm_16000_stereo,
    "hang": _hang,
    "drip": _drip,
    "endless": _endless,
    "json": _json,
    "json-as-audio": _json_as_audio,
    "html": _html,
    "empty": _empty,
    "no-samples": _no_samples,
    "truncated": _truncated,
    "odd-pcm": _odd_pcm,
    "connection-lost": _connection_lost,
    "gzip": _gzip,
    "says-truncated": _says_truncated,
    "redirect": _redirect,
    **{f"status-{status}": _status(status) for status in (400, 403, 404, 408, 422, 429, 500, 502, 503)},
}


async def main() -> None:
    """Serve on a free port of loopback, and print it."""
    config = uvicorn.Config(_Server().app(), host="127.0.0.1", port=0, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.02)
    sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
