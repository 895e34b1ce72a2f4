"""RunPod job handler: a job in, a clip or a typed failure out."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import os
import traceback
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from gpu_worker.engine_protocol import Engine, Utterance
from gpu_worker.settings import WorkerSettings
from gpu_worker.start_times import START_TIMES
from gpu_worker.voices import VoiceLoader
from narration.audio.files import encode_clip
from narration.contract import (
    RETRYABLE_CODES,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisFailure,
    SynthesisRequest,
    SynthesisResult,
    parse_request,
)

MAX_RESULT_BYTES = 10_000_000
"""RunPod answers 400 to a larger result, and the job then shows as completed without output."""

_FIELDS_BYTES = 2_000  # at most, of a result's JSON without its audio

log = logging.getLogger(__name__)


class Handler:
    """The function that RunPod's loop calls for each job, several at once on one event loop.

    Log lines carry the job id and numbers only: a text, a URL or an exception's message could
    disclose what was sent.
    """

    def __init__(self, engine: Engine, settings: WorkerSettings) -> None:
        self._engine = engine
        self._transcript = settings.voice_sample_transcript
        self._voices = VoiceLoader(
            fetch_timeout=settings.fetch_timeout, allow_private_urls=settings.allow_private_urls
        )

    async def __call__(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """A `SynthesisResult` or a `SynthesisFailure` as a JSON object; raises only on cancellation."""
        started = perf_counter()
        try:
            result = await self._synthesize(parse_request(job.get("input")), started)
        except ContractError as error:
            log.info("job %s failed: %s", job.get("id"), error.failure.error_code)
            return error.failure.model_dump()
        except Exception as error:  # noqa: BLE001 -- one job's failure must not end the loop that serves the others
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("job %s failed with %s\n%s", job.get("id"), type(error).__name__, frames)  # noqa: TRY400 -- the message may quote the prompt
            return _engine_failure(error).model_dump()
        log.info(
            "job %s: %d frames, %s, %.2f s in all, %.2f s of it queued",
            *(job.get("id"), result.frames, result.finish_reason),
            *(result.timings.total, result.timings.queue),
        )
        return result.model_dump()

    async def _synthesize(self, request: SynthesisRequest, started: float) -> SynthesisResult:
        self._refuse_other_model(request)
        request = self._with_transcript(request)
        submitted = perf_counter()
        utterance = await self._engine.synthesize(request, self._voices.of(request))
        encoded = await asyncio.to_thread(encode_clip, utterance.waveform, request.audio_format)
        return self._result(utterance, encoded, queued=submitted - started, started=started)

    def _refuse_other_model(self, request: SynthesisRequest) -> None:
        if request.model not in (None, self._engine.model):
            raise ContractError(
                ErrorCode.MODEL_MISMATCH,
                f"the request is for model {request.model!r}, this worker runs {self._engine.model!r}",
            )

    def _with_transcript(self, request: SynthesisRequest) -> SynthesisRequest:
        if not request.cloned or request.audio_transcript is not None:
            return request
        if not self._transcript:
            raise ContractError(
                ErrorCode.TRANSCRIPT_MISSING,
                "audio_transcript: the sample comes without one, and VOICE_SAMPLE_TRANSCRIPT is not set",
            )
        return request.model_copy(update={"audio_transcript": self._transcript})

    def _result(
        self, utterance: Utterance, encoded: bytes, *, queued: float, started: float
    ) -> SynthesisResult:
        if len(encoded) * 4 / 3 > MAX_RESULT_BYTES - _FIELDS_BYTES:
            raise ContractError(
                ErrorCode.REQUEST_TOO_LONG,
                f"the clip of {utterance.waveform.size / SAMPLE_RATE:.0f} s has {len(encoded)} bytes, more"
                " than RunPod carries; ask for a shorter text, fewer max_new_tokens or audio_format flac",
            )
        timings = utterance.timings
        return SynthesisResult(
            audio_base64=base64.b64encode(encoded).decode(),
            duration=utterance.waveform.size / SAMPLE_RATE,
            sample_rate=SAMPLE_RATE,
            finish_reason=utterance.finish_reason,
            frames=utterance.frames,
            seed=utterance.seed,
            model=self._engine.model,
            engine=self._engine.configuration,
            timings=timings.model_copy(
                update={"queue": queued + timings.queue, "total": perf_counter() - started}
            ),
        )


def jobs_at_once(slots: int, jobs_per_slot: float) -> int:
    """How many jobs the worker takes for `slots` slots.

    More than there are slots: RunPod's loop asks for jobs once a second when it holds all it may, and a
    job counts as held until its result is posted. With one job for each slot a quarter of the slots
    would stand empty (benchmarks/slots.py); the jobs beyond the slots wait in the engine's queue.
    """
    return math.ceil(slots * jobs_per_slot)


def serve(engine: Engine, settings: WorkerSettings) -> None:
    """Run RunPod's loop until SIGTERM; then answer all jobs taken and return."""
    jobs = jobs_at_once(engine.slots, settings.jobs_per_slot)
    # At its default level RunPod's logger would print every output, audio included.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    with START_TIMES.part("runpod"):
        import runpod  # noqa: PLC0415 -- takes two seconds, and reads the log level above while it is imported
    log.info("started: %s", START_TIMES.describe())

    runpod.serverless.start(
        {
            "handler": Handler(engine, settings),
            "concurrency_modifier": lambda _current: jobs,
        }
    )
    asyncio.run(engine.drain())


def _engine_failure(error: Exception) -> SynthesisFailure:
    """The client's view of an exception: its type and message on one line, no traceback."""
    code = ErrorCode.ENGINE_FAILURE
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return SynthesisFailure(error=reason, error_code=code, retryable=code in RETRYABLE_CODES)
