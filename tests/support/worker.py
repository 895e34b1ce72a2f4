"""Kit for worker tests: voice samples, a web server for them, an engine that returns a tone, jobs."""

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
    """A sine of 220 Hz, mono at `rate`."""
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
    """`waveform` [samples] or [samples, channels] as the bytes of an audio file."""
    target = io.BytesIO()
    soundfile.write(target, waveform, rate, format=container, subtype=subtype)
    return target.getvalue()


def inline(data: bytes) -> str:
    """Bytes as base64, as a request carries them."""
    return base64.b64encode(data).decode()


def decoded(answer: dict[str, Any]) -> tuple[NDArray[np.int16], int]:
    """Samples and sample rate of a result's audio."""
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(answer["audio_base64"])), dtype="int16")
    return samples, rate


class ToneEngine:
    """An `Engine` for tests: one frame of tone for each character, after `pause`, or `failure` raised.

    It records its requests, cancellations and the most requests it had at once.
    """

    def __init__(self, *, slots: int = 4, waveform: Waveform | None = None) -> None:
        self.model = MODEL
        self.slots = slots
        self.configuration: dict[str, str | int | float | bool] = {"engine": "tone"}
        self.requests: list[SynthesisRequest] = []
        self.loads_samples = True
        self.failure: Exception | None = None
        self.pause = 0.0
        self.cancelled = 0
        self.in_progress = 0
        self.most_at_once = 0
        self._waveform = waveform

    async def synthesize(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """Return a tone."""
        self.requests.append(request)
        self.in_progress += 1
        self.most_at_once = max(self.most_at_once, self.in_progress)
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_progress -= 1
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
        """Nothing to do."""


def handler(engine: Engine | None = None, **settings: Any) -> Handler:
    """A handler with `engine` (a `ToneEngine` by default) and `settings`; no `.env` file is read."""
    fixed: dict[str, Any] = {"_env_file": None, "voice_sample_transcript": None, **settings}
    return Handler(engine or ToneEngine(), WorkerSettings(**fixed))


def job(**job_input: Any) -> dict[str, Any]:
    """A job as RunPod's loop passes it to the handler."""
    return {"id": "job-1", "input": job_input}


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A web server on loopback that answers every GET by calling `answer`; yields its URL."""

    class Request(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Do not log."""

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
    """An answer for `serving`: status 200 with `data` as the body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer
