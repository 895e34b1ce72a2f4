"""Voice samples of every kind, a web server for them, and a speaker that answers with a tone."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from gpu_worker.engine_protocol import Engine, SampleLoader, Utterance, Waveform
from gpu_worker.handler import Handler
from gpu_worker.settings import WorkerSettings
from narration.contract import SynthesisRequest, Timings

FRAME = 960  # samples
MODEL = "tone/engine-1"


def tone(seconds: float, *, rate: int = 24_000, level: float = 0.3) -> Waveform:
    """A sine of 220 Hz."""
    wave = level * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    return wave.astype(np.float32)


def sample(
    seconds: float = 3.0,
    *,
    rate: int = 24_000,
    channels: int = 1,
    container: str = "WAV",
    subtype: str | None = None,
    level: float = 0.3,
) -> bytes:
    """An encoded voice sample."""
    mono = tone(seconds, rate=rate, level=level)
    return encoded(np.repeat(mono[:, None], channels, axis=1), rate, container, subtype)


def encoded(waveform: NDArray[Any], rate: int, container: str = "WAV", subtype: str | None = None) -> bytes:
    """`waveform` as a file's bytes."""
    target = io.BytesIO()
    soundfile.write(target, waveform, rate, format=container, subtype=subtype)
    return target.getvalue()


def inline(data: bytes) -> str:
    """Bytes as a request carries them."""
    return base64.b64encode(data).decode()


def decoded(answer: dict[str, Any]) -> tuple[NDArray[np.int16], int]:
    """The samples and rate of a result's audio."""
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(answer["audio_base64"])), dtype="int16")
    return samples, rate


class ToneSpeaker:
    """The twin of an engine: a frame of tone a character, and whatever a test puts in its way."""

    def __init__(self, *, slots: int = 4, waveform: Waveform | None = None) -> None:
        self.model = MODEL
        self.slots = slots
        self.facts: dict[str, str | int | float | bool] = {"engine": "tone"}
        self.requests: list[SynthesisRequest] = []
        self.loads_samples = True
        self.failure: Exception | None = None
        self.pause = 0.0
        self.cancelled = 0
        self.speaking = 0
        self.most_at_once = 0
        self._waveform = waveform

    async def speak(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """Say nothing but a tone."""
        self.requests.append(request)
        self.speaking += 1
        self.most_at_once = max(self.most_at_once, self.speaking)
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.speaking -= 1
        if sample is not None and self.loads_samples:
            await sample()
        if self.failure is not None:
            raise self.failure
        frames = min(len(request.prompt), request.max_new_tokens)
        waveform = tone(frames * FRAME / 24_000) if self._waveform is None else self._waveform
        return Utterance(
            waveform=waveform,
            frames=frames,
            finish_reason="stop",
            seed=request.seed or 0,
            timings=Timings(queue=0.25, decode=0.5),
        )

    async def drain(self) -> None:
        """Nothing to finish."""


def handler(speaker: Engine | None = None, **settings: Any) -> Handler:
    """A handler over `speaker` (a tone by default), its settings not read from anywhere."""
    fixed: dict[str, Any] = {"_env_file": None, "voice_sample_transcript": None, **settings}
    return Handler(speaker or ToneSpeaker(), WorkerSettings(**fixed))


def job(**job_input: Any) -> dict[str, Any]:
    """A job as RunPod's loop hands it over."""
    return {"id": "job-1", "input": job_input}


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A web server on loopback that treats every GET with `answer`; yields its URL."""

    class Request(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/sample.wav"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def file(data: bytes) -> Answer:
    """The answer that is a file."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer
