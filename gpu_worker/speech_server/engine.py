"""Speech-server engine: synthesizes a request by one request to a server with OpenAI's `/v1/audio/speech`."""

from __future__ import annotations

import asyncio
import base64
from time import perf_counter

import numpy as np
from cachetools import LRUCache

from gpu_worker.engine_protocol import SampleLoader, Utterance, Waveform
from gpu_worker.speech_server.http_request import SpeechServer
from gpu_worker.speech_server.options import SpeechServerOptions
from gpu_worker.speech_server.request_body import request_body
from gpu_worker.speech_server.response_audio import decode_response
from narration.audio.files import encode_clip
from narration.contract import (
    FRAME_RATE,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisRequest,
    Timings,
)

FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE
DEFAULT_SLOTS = 16
MAX_BYTES_PER_SECOND = 48_000 * 2 * 4  # of audio: stereo at 48 kHz with 32 bits
SPARE_SECONDS = 60  # of audio accepted beyond the request's frames; more of it is cut off


class SpeechServerEngine:
    """An `Engine` that has a server speak, as many requests at once as it has slots.

    Of a request, the prompt, the voice sample with its transcript and, where the server's kind takes them,
    the seed and the sampling go to the server. `system_prompt`, `scene` and repetition-aware sampling are
    Higgs Audio V2's alone; a request with a chunk to continue from is refused.
    """

    def __init__(self, options: SpeechServerOptions, *, slots: int = DEFAULT_SLOTS, voice_cache: int) -> None:
        self.model = options.model_id
        self.slots = slots
        self.configuration: dict[str, str | int | float | bool] = {
            "engine": "openai",
            "server": options.api,
            "server_model": options.model,
            "server_revision": options.revision,
            "seed_sent": options.api != "openai",
        }
        self._options = options
        self._server = SpeechServer(options)
        self._free_slots = asyncio.Semaphore(slots)
        self._samples: LRUCache[str, str] = LRUCache(voice_cache)  # data URLs by the sample's SHA-256

    async def synthesize(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """See `Engine.synthesize`. The seed makes clips repeatable only as far as the server heeds it."""
        self._refuse_what_the_server_lacks(request)
        started = perf_counter()
        data_url = await self._data_url(request.audio_sha256, sample) if sample is not None else None
        voice_loaded = perf_counter()
        body = request_body(self._options, request, data_url)
        async with self._free_slots:
            admitted = perf_counter()
            response = await self._server.speak(body, max_bytes=_max_bytes(request))
        received = perf_counter()
        waveform = await asyncio.to_thread(decode_response, response, self._options.audio_format)
        spoken_frames = -(-waveform.size // FRAME_SAMPLES)
        frames = min(spoken_frames, request.max_new_tokens)
        is_cut = frames < spoken_frames or response.truncated
        return Utterance(
            waveform=_cut_or_pad(waveform, frames),
            frames=frames,
            finish_reason="length" if is_cut else "stop",
            seed=request.seed or 0,
            timings=Timings(
                voice=voice_loaded - started,
                queue=admitted - voice_loaded,
                decode=received - admitted,
                codec=perf_counter() - received,
            ),
        )

    async def drain(self) -> None:
        """Nothing to do: no work outlives the request it belongs to."""

    def _refuse_what_the_server_lacks(self, request: SynthesisRequest) -> None:
        if request.previous_text is not None:
            raise ContractError(
                ErrorCode.INVALID_INPUT,
                "previous_text: speech servers continue from no chunk; set NARRATION_CONTINUITY=false",
            )
        if request.cloned and self._options.voice is not None:
            raise ContractError(
                ErrorCode.INVALID_INPUT,
                f"this worker speaks in the server's voice {self._options.voice!r} and clones no sample",
            )

    async def _data_url(self, sha256: str | None, sample: SampleLoader) -> str:
        """The voice sample as a data URL of 16-bit WAV, at 24 kHz mono."""
        if sha256 is None or sha256 not in self._samples:
            loaded = await sample()
            wav = await asyncio.to_thread(encode_clip, loaded.waveform, "wav")
            sha256 = loaded.sha256
            self._samples[sha256] = f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"
        return self._samples[sha256]


def _max_bytes(request: SynthesisRequest) -> int:
    return int((request.max_new_tokens / FRAME_RATE + SPARE_SECONDS) * MAX_BYTES_PER_SECOND)


def _cut_or_pad(waveform: Waveform, frames: int) -> Waveform:
    """`waveform` cut, or padded with silence, to `frames` frames."""
    cut = waveform[: frames * FRAME_SAMPLES]
    return np.pad(cut, (0, frames * FRAME_SAMPLES - cut.size))
