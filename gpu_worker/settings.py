"""Worker settings: WORKER_* environment variables, read once and checked, each with a default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

EngineName = Literal["draft", "higgs"]


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
