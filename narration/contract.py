"""The contract with the worker: what is asked, what is answered, and what identifies a clip.

Only pydantic and the standard library, since the worker imports this room too.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

CONTRACT_VERSION = 1
SAMPLE_RATE = 24_000  # Hz, of every clip
FRAME_RATE = 25  # audio frames a second; one frame is 960 samples
MAX_PROMPT_CHARACTERS = 2_000
MIN_SAMPLE_SECONDS = 1.0
MAX_SAMPLE_SECONDS = 30.0
MAX_SAMPLE_BYTES = 20_000_000  # of an encoded voice sample, fetched or inline
MAX_SAMPLE_CHARACTERS = MAX_SAMPLE_BYTES * 4 // 3 + 4  # as base64
MIN_FRAME_CAP = 256  # the least `max_new_tokens` the pipeline sends: ten seconds of speech
MAX_RAS_WINDOW = 64  # steps that repetition-aware sampling may look back
MAX_FRAME_CAP = 8_192  # the most that a request may ask for

DEFAULT_SYSTEM_PROMPT = "Generate audio following instruction."
DEFAULT_SCENE = "Audio is recorded from a quiet room."

DRAFT_MODEL = "draft/espeak-ng-1.52/engine-2"
"""Model id of the draft engine: espeak-ng on the CPU, never mistaken for a cloned voice."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ErrorCode(StrEnum):
    """Why a worker refused or failed; part of the contract, never renamed."""

    INVALID_INPUT = "invalid_input"
    MODEL_MISMATCH = "model_mismatch"
    REQUEST_TOO_LONG = "request_too_long"
    TRANSCRIPT_MISSING = "transcript_missing"
    SAMPLE_REFUSED = "sample_refused"  # a URL the worker will not fetch
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


RETRYABLE_CODES = frozenset(
    {
        ErrorCode.SAMPLE_UNREACHABLE,
        ErrorCode.OUT_OF_MEMORY,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.ENGINE_FAILURE,
    }
)
"""Codes after which the same request may well succeed."""


class SynthesisFailure(BaseModel):
    """The worker's answer when there is no clip. Source: DESIGN, "Contract with the worker"."""

    model_config = ConfigDict(frozen=True)

    error: Annotated[str, Field(min_length=1)]
    error_code: str
    retryable: bool

    @field_validator("error", mode="before")
    @classmethod
    def _is_printable(cls, text: object) -> object:
        """One line, of characters that UTF-8 has: an exception may quote a file's name that has others."""
        return "".join(c if c.isprintable() else " " for c in text) if isinstance(text, str) else text


class ContractError(Exception):
    """A request outside the contract, as the failure to answer it with."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.failure = SynthesisFailure(error=message, error_code=code, retryable=code in RETRYABLE_CODES)


class SynthesisRequest(BaseModel):
    """One chunk to be spoken. The first seven fields are the published interface.

    Strict: a number given as text, a truth value given as a number, an unknown field
    are refused rather than guessed at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    audio_url: Annotated[
        Annotated[str, Field(pattern=r"^(?i:https?)://", max_length=4096)] | None, Field(repr=False)
    ] = None  # its query may sign
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
    def _speaks(cls, text: str | None) -> str | None:
        if text is not None and not any(c.isprintable() and not c.isspace() for c in text):
            raise ValueError("holds nothing but whitespace and control characters")
        return text

    @field_validator("prompt", "audio_transcript", "previous_text", "system_prompt", "scene")
    @classmethod
    def _encodes(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("holds a lone surrogate, which is no character") from None
        return text

    @model_validator(mode="after")
    def _agrees(self) -> SynthesisRequest:
        if self.audio_url is not None and self.audio_base64 is not None:
            raise ValueError("audio_url and audio_base64 are two samples; give one")
        if (self.previous_text is None) != (self.previous_audio_base64 is None):
            raise ValueError("previous_text and previous_audio_base64 come together or not at all")
        return self

    @property
    def cloned(self) -> bool:
        """Whether a voice sample comes with the request."""
        return self.audio_url is not None or self.audio_base64 is not None


class Timings(BaseModel):
    """Where a clip's time went in the worker, in seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    queue: Finite = 0.0
    voice: Finite = 0.0
    prefill: Finite = 0.0
    decode: Finite = 0.0
    codec: Finite = 0.0
    total: Finite = 0.0


class SynthesisResult(BaseModel):
    """The worker's answer when there is a clip. `duration` in seconds, mono at `sample_rate` Hz."""

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
    """Facts of the configuration that made the clip: device, dtype, slots, versions."""


def parse_request(job_input: object) -> SynthesisRequest:
    """Read a job's input; raise `ContractError` (`invalid_input`) naming the first wrong field."""
    if not isinstance(job_input, dict):
        kind = type(job_input).__name__
        raise ContractError(ErrorCode.INVALID_INPUT, f"input: expected an object, got {kind}")
    try:
        return SynthesisRequest.model_validate(job_input)
    except ValidationError as error:
        raise ContractError(ErrorCode.INVALID_INPUT, _explain(error)) from None


def _explain(error: ValidationError) -> str:
    """Name field and reason, never the value: it may be long, secret or forged to look like a log line."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part)[:60] for part in first["loc"]) or "input"
    reason = first["msg"].removeprefix("Value error, ")  # pydantic's, before this module's own words
    return f"{field}: {reason}"


_OUTSIDE_IDENTITY = {
    "audio_url",
    "audio_base64",
    "previous_text",
    "previous_audio_base64",
    "max_new_tokens",
    "audio_format",
}


def digest(request: SynthesisRequest, *, take: int = 1, previous: str | None = None) -> str:
    """Identity of the clip that `request` asks for: SHA-256 of canonical JSON, 64 hex digits.

    Everything that can change the waveform enters it, with defaults resolved, and nothing else:
    not where the sample is fetched from (its SHA-256 does), not the frame cap, not the format.
    `previous` is the identity of the clip that the continuity context is cut from; it covers the
    context's text and audio, so that a plan can name every clip before any of them is spoken.

    Raises `ValueError` for a request whose identity is open: no model id, a sample without
    its SHA-256 or transcript, context without `previous`, `take` below 1.
    """
    if take < 1:
        raise ValueError("takes are numbered from 1")
    if request.model is None:
        raise ValueError("a clip's identity needs the model id")
    if request.cloned and (request.audio_sha256 is None or request.audio_transcript is None):
        raise ValueError("a clip's identity needs the sample's SHA-256 and transcript")
    if request.previous_text is not None and previous is None:
        raise ValueError("a clip's identity needs the identity of its context")
    fields = request.model_dump(mode="json", exclude=_OUTSIDE_IDENTITY)
    fields["previous"] = previous
    fields["take"] = take
    fields["contract_version"] = CONTRACT_VERSION
    # Numbers that compare equal are one identity: 1 and 1.0 are the same temperature.
    for name in ("temperature", "top_p"):
        fields[name] = float(fields[name])
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def attempt_seed(identity: str, attempt: int) -> int:
    """Seed of the `attempt`-th try (from 1) at the clip `identity`.

    32 bits, so that every JSON reader keeps it whole.
    """
    if attempt < 1:
        raise ValueError("attempts are numbered from 1")
    return int.from_bytes(hashlib.sha256(f"{identity}/{attempt}".encode()).digest()[:4], "big")
