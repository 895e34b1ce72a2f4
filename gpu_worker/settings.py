"""Worker settings: WORKER_* environment variables, read once and checked, each with a default."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

EngineName = Literal["draft", "higgs", "openai"]
SpeechApi = Literal["openai", "vllm-omni", "sglang-omni"]
AudioFormat = Literal["wav", "flac", "mp3", "pcm"]


def _plain_url(text: str) -> str:
    """`text` if it is an http(s) URL without user name, password, query and fragment."""
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname or (url.port or 1) < 1:
        raise ValueError("not an http or https URL")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError(
            "must hold no user name, password, query or fragment: WORKER_SPEECH_KEY is for the key"
        )
    return text


# Parts of a speech model's id, in which / separates them; a model's name may hold some itself.
_Name = Annotated[str, Field(pattern=r"^[\w.:+()-]+$", max_length=80)]
_ModelName = Annotated[str, Field(pattern=r"^[\w.:+-]+(/[\w.:+-]+)*$", max_length=120)]


class WorkerSettings(BaseSettings):
    """Every setting of the worker; its variable is `WORKER_<FIELD>`, or the alias given."""

    model_config = SettingsConfigDict(
        env_prefix="WORKER_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    engine: EngineName = "higgs"
    model: str | None = None  # hub repository with revision, or a local folder; unset: the pinned one
    codec: str | None = None  # likewise
    slots: Annotated[int, Field(ge=1, le=128)] | None = (
        None  # requests at a time; unset: the engine's default
    )
    jobs_per_slot: Annotated[float, Field(ge=1, le=4)] = 1.5  # jobs taken; those beyond the slots wait here
    slot_length: Annotated[int, Field(ge=256, le=8192)] | None = (
        None  # tokens of prompt, voice and speech; unset: by the card's memory, on the CPU 2304
    )
    prefix_cache_mb: Annotated[int, Field(ge=0, le=100_000)] = 512  # of device memory, for voices in use
    device: Literal["cuda", "cpu"] | None = None  # unset: cuda if there is a CUDA device
    codec_tf32: bool = False  # decode clips on a CUDA device with products of lower precision
    compile_sampler: bool | None = None  # unset: on a CUDA device
    attention: Literal["triton", "flash-split", "flash"] | None = (
        None  # on a CUDA device; unset: the best one
    )

    # The speech server of the engine `openai`
    speech_url: Annotated[str, AfterValidator(_plain_url)] | None = None  # of its API, ending in /v1
    speech_key: SecretStr | None = None
    speech_model: _ModelName | None = None  # as the server names it
    speech_revision: _Name | None = None  # of what the server runs: part of the model id
    speech_voice: _Name | None = None  # one of the server's; unset: the requests' samples are cloned
    speech_api: SpeechApi = "openai"  # whose fields the server takes beside OpenAI's
    speech_format: AudioFormat = "wav"
    speech_timeout: Annotated[float, Field(gt=0, le=3600)] = 300  # s, for one request and its whole answer
    speech_tokens_per_second: Annotated[float, Field(gt=0, le=10_000)] | None = None  # the model's

    # Voice samples
    voice_sample_transcript: str | None = Field(default=None, validation_alias="VOICE_SAMPLE_TRANSCRIPT")
    allow_private_urls: bool = False  # also download samples from this machine and its network: for tests
    fetch_timeout: Annotated[float, Field(gt=0, le=300)] = 30  # s, for one sample's whole download
    voice_cache: Annotated[int, Field(ge=1, le=10_000)] = 64  # encoded voices kept


def read_settings() -> WorkerSettings:
    """Settings from the environment and `.env`; raises `SystemExit` naming an invalid variable."""
    try:
        return WorkerSettings()
    except ValidationError as error:
        field, reason = _first_error(error)
        name = field if field.isupper() else f"WORKER_{field.upper()}"
        raise SystemExit(f"{name}: {reason}") from None


def override_settings(settings: WorkerSettings, **flags: str | int | None) -> WorkerSettings:
    """`settings` with every flag that is not None; raises `SystemExit` naming an invalid flag."""
    overrides = {name: value for name, value in flags.items() if value is not None}
    try:
        return WorkerSettings.model_validate(settings.model_dump() | overrides)
    except ValidationError as error:
        field, reason = _first_error(error)
        raise SystemExit(f"--{field}: {reason}") from None


def _first_error(error: ValidationError) -> tuple[str, str]:
    """Field and reason of the first validation error."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return str(first["loc"][0]), first["msg"]
