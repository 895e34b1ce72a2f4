"""The messages between pipeline and worker: request, result, failure, and the limits of their fields.

Imports only pydantic and the standard library, since the worker's image holds a copy of this file.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

SAMPLE_RATE = 24_000  # Hz, of every clip
FRAME_RATE = 25  # audio frames per second; one frame is 960 samples
MAX_PROMPT_CHARACTERS = 2_000
MIN_SAMPLE_SECONDS = 1.0
MAX_SAMPLE_SECONDS = 30.0
MAX_SAMPLE_BYTES = 20_000_000  # of an encoded voice sample, fetched or inline
MAX_SAMPLE_CHARACTERS = MAX_SAMPLE_BYTES * 4 // 3 + 4  # of the same in base64
MIN_FRAME_CAP = 256  # frames; the pipeline sends no smaller `max_new_tokens`: ten seconds of speech
MAX_FRAME_CAP = 8_192  # frames; the largest `max_new_tokens` of a request
MAX_RAS_WINDOW = 64  # steps that repetition-aware sampling may look back

DEFAULT_SYSTEM_PROMPT = "Generate audio following instruction."
DEFAULT_SCENE = "Audio is recorded from a quiet room."

DRAFT_MODEL = "draft/espeak-ng-1.52/engine-2"
"""Model id of the draft engine, which is espeak-ng on the CPU."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ErrorCode(StrEnum):
    """Why a worker refused or failed a request. The values are part of the contract and never renamed."""

    INVALID_INPUT = "invalid_input"
    MODEL_MISMATCH = "model_mismatch"
    REQUEST_TOO_LONG = "request_too_long"
    TRANSCRIPT_MISSING = "transcript_missing"
    SAMPLE_REFUSED = "sample_refused"  # a URL that the worker does not fetch, such as a private address
    SAMPLE_UNREACHABLE = "sample_unreachable"
    SAMPLE_TOO_LARGE = "sample_too_large"
    SAMPLE_DIGEST_MISMATCH = "sample_digest_mismatch"
    SAMPLE_NOT_AUDIO = "sample_not_audio"
    SAMPLE_TOO_SHORT = "sample_too_short"
    SAMPLE_TOO_LONG = "sample_too_long"
    SAMPLE_SILENT = "sample_silent"
    OUT_OF_MEMORY = "out_of_memory"
    SHUTTING_DOWN = "shutting_down"
    ENGINE_FAILURE = "engine_failure"
    SPEECH_SERVER_REFUSED = "speech_server_refused"  # the server that the worker speaks through


RETRYABLE_CODES = frozenset(
    {
        ErrorCode.SAMPLE_UNREACHABLE,
        ErrorCode.OUT_OF_MEMORY,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.ENGINE_FAILURE,
    }
)
"""Codes of failures after which the same request may succeed."""


class SynthesisFailure(BaseModel):
    """The worker's answer to a request that gave no clip. `retryable`: the same request may succeed."""

    model_config = ConfigDict(frozen=True)

    error: Annotated[str, Field(min_length=1)]
    error_code: str
    retryable: bool

    @field_validator("error", mode="before")
    @classmethod
    def _to_one_line(cls, text: object) -> object:
        """Replace line breaks, controls and lone surrogates: the text may quote a file's name."""
        return "".join(c if c.isprintable() else " " for c in text) if isinstance(text, str) else text


class ContractError(Exception):
    """The worker cannot fulfil a request; `failure` is the answer to it."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.failure = SynthesisFailure(error=message, error_code=code, retryable=code in RETRYABLE_CODES)


class SynthesisRequest(BaseModel):
    """One chunk to be spoken. The first seven fields are the published interface and never change.

    Strict: a number given as text, a boolean given as a number and an unknown field are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    audio_url: Annotated[
        Annotated[str, Field(pattern=r"^(?i:https?)://", max_length=4096)] | None, Field(repr=False)
    ] = None  # left out of the repr, since its query may hold a signature
    temperature: Annotated[Finite, Field(ge=0, le=2)] = 0.3
    top_p: Annotated[Finite, Field(gt=0, le=1)] = 0.95
    top_k: Annotated[int, Field(ge=1, le=1026)] = 50
    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_FRAME_CAP)] = 1024
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    audio_transcript: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    audio_base64: Annotated[str | None, Field(min_length=1, max_length=MAX_SAMPLE_CHARACTERS, repr=False)] = (
        None
    )
    audio_sha256: Sha256 | None = None
    system_prompt: Annotated[str, Field(max_length=2_000)] = DEFAULT_SYSTEM_PROMPT
    scene: Annotated[str, Field(max_length=2_000)] = DEFAULT_SCENE
    previous_text: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)] | None = None
    previous_audio_base64: Annotated[str | None, Field(min_length=1, max_length=4_000_000, repr=False)] = None
    ras_win_len: Annotated[int, Field(ge=0, le=MAX_RAS_WINDOW)] = 7
    ras_win_max_num_repeat: Annotated[int, Field(ge=0, le=MAX_RAS_WINDOW)] = 2
    audio_format: Literal["wav", "flac"] = "wav"
    model: Annotated[str, Field(min_length=1, max_length=300)] | None = None

    @field_validator("prompt", "audio_transcript", "previous_text")
    @classmethod
    def _has_visible_text(cls, text: str | None) -> str | None:
        if text is not None and not any(c.isprintable() and not c.isspace() for c in text):
            raise ValueError("holds nothing but whitespace and control characters")
        return text

    @field_validator("prompt", "audio_transcript", "previous_text", "system_prompt", "scene")
    @classmethod
    def _is_valid_unicode(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("holds a lone surrogate, which is no character") from None
        return text

    @model_validator(mode="after")
    def _fields_consistent(self) -> SynthesisRequest:
        if self.audio_url is not None and self.audio_base64 is not None:
            raise ValueError("audio_url and audio_base64 are two samples; give one")
        if (self.previous_text is None) != (self.previous_audio_base64 is None):
            raise ValueError("previous_text and previous_audio_base64 come together or not at all")
        return self

    @property
    def cloned(self) -> bool:
        """Whether the request holds a voice sample, inline or by URL."""
        return self.audio_url is not None or self.audio_base64 is not None


class Timings(BaseModel):
    """Seconds that the worker spent on each step of a clip."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    queue: Finite = 0.0
    voice: Finite = 0.0
    prefill: Finite = 0.0
    decode: Finite = 0.0
    codec: Finite = 0.0
    total: Finite = 0.0


class SynthesisResult(BaseModel):
    """The worker's answer with a clip: mono audio at `sample_rate` Hz, `duration` in seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    audio_base64: Annotated[str, Field(min_length=1, repr=False)]
    duration: Annotated[Finite, Field(gt=0)]
    sample_rate: Annotated[int, Field(gt=0)]
    finish_reason: Literal["stop", "length"]
    frames: Annotated[int, Field(ge=0)]
    seed: int
    model: str
    timings: Timings = Timings()
    engine: dict[str, str | int | Finite | bool] = {}
    """The configuration that made the clip: device, dtype, slots, versions of libraries."""


def parse_request(job_input: object) -> SynthesisRequest:
    """The request in a job's input; raises `ContractError` (`invalid_input`) naming the first wrong field."""
    if not isinstance(job_input, dict):
        kind = type(job_input).__name__
        raise ContractError(ErrorCode.INVALID_INPUT, f"input: expected an object, got {kind}")
    try:
        return SynthesisRequest.model_validate(job_input)
    except ValidationError as error:
        raise ContractError(ErrorCode.INVALID_INPUT, _first_error(error)) from None


def _first_error(error: ValidationError) -> str:
    """The first wrong field and the reason, without its value, which may be secret or break a log line."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part)[:60] for part in first["loc"]) or "input"
    reason = first["msg"].removeprefix("Value error, ")  # pydantic puts it before a validator's own message
    return f"{field}: {reason}"
