"""The pipeline's settings, read from the environment and `.env` and validated; only keys have no default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from narration.contract import DEFAULT_SCENE, DEFAULT_SYSTEM_PROMPT, DRAFT_MODEL, MAX_PROMPT_CHARACTERS
from narration.errors import SettingsError

EngineName = Literal["draft", "higgs"]
LoudnessPreset = Literal["video", "podcast", "audiobook"]

RUNPOD_URL = "https://api.runpod.ai/v2"

ASK_FOR_DRAFT = "ask for the draft voice: `--engine draft`, or engine=draft in a deployment"
"""The remedy that the command line and the deployments share, each in its own words."""

ASSUMED_SPEED = 10.0
"""Seconds of speech per GPU second, assumed until `NARRATION_SPEED` states a measured one."""

CLIP_SETTINGS = (
    "chunk_characters",
    "temperature",
    "top_p",
    "top_k",
    "ras_win_len",
    "ras_win_max_num_repeat",
    "seed",
    "system_prompt",
    "scene",
    "continuity",
)
"""Settings that change the clips. A retake takes them from the manifest of its narration."""

RENDER_SETTINGS = ("loudness", "pause_sentence", "pause_paragraph", "pause_heading")
"""Settings that change the master and not the clips. A retake takes them from the manifest too."""

Seconds = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting of the pipeline: `NARRATION_<FIELD>` in the environment, or the alias given."""

    model_config = SettingsConfigDict(
        env_prefix="NARRATION_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    # The endpoint
    runpod_api_key: SecretStr | None = Field(default=None, validation_alias="RUNPOD_API_KEY")
    endpoint_id: str | None = Field(default=None, validation_alias="RUNPOD_HIGGS_ENDPOINT_ID")
    management_key: SecretStr | None = Field(default=None, validation_alias="RUNPOD_MANAGEMENT_KEY")
    runpod_url: str = RUNPOD_URL
    engine: EngineName | None = (
        None  # unset: higgs where an endpoint is configured, else draft on a folder store
    )
    model: str | None = None  # the model id to ask for, with the engine higgs any that an endpoint runs
    concurrency: Annotated[int, Field(ge=1, le=400)] = 48  # jobs in flight: 1.5 x slots x workers
    slots: Annotated[int, Field(ge=1, le=128)] = 32  # jobs that a worker runs at once, sharing its price
    job_timeout: Annotated[float, Field(ge=5, le=7 * 86_400)] = 600  # s, one job's execution
    queue_timeout: Annotated[float, Field(ge=10, le=7 * 86_400)] = (
        3_600  # s, a job's whole life, queue included
    )
    attempts: Annotated[int, Field(ge=1, le=10)] = 3  # at one clip, each with another seed
    endpoint_limit: str | None = None  # name of Prefect's global concurrency limit for jobs

    # The store and the scripts that may be read
    store: str = "./narrations-store"
    script_folder: str | None = None  # the one folder deployments may read scripts from
    allow_private_urls: bool = False

    # The voice
    voice: str = "default"
    voice_sample_url: str | None = Field(default=None, validation_alias="VOICE_SAMPLE_URL", repr=False)
    voice_sample_transcript: str | None = Field(default=None, validation_alias="VOICE_SAMPLE_TRANSCRIPT")
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    scene: str = DEFAULT_SCENE
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.3
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    top_k: Annotated[int, Field(ge=1, le=1026)] = 50
    ras_win_len: Annotated[int, Field(ge=0, le=64)] = 7
    ras_win_max_num_repeat: Annotated[int, Field(ge=0, le=64)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    continuity: bool = False  # give each chunk the one before it in its paragraph as context

    # The narration
    chunk_characters: Annotated[int, Field(ge=20, le=MAX_PROMPT_CHARACTERS)] = 500
    loudness: LoudnessPreset = "video"
    pause_sentence: Seconds = 0.35
    pause_paragraph: Seconds = 0.75
    pause_heading: Seconds = 1.2
    ffmpeg: str | None = None  # path; unset: found on PATH, else the bundled one

    # Money
    price_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.00031  # USD, RTX 4090 flex
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # measured speech s per GPU s
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # USD a run

    def engine_in_use(self) -> EngineName:
        """The engine to use; raises `SettingsError` where a store in S3 needs `engine` or an endpoint."""
        if self.engine is not None:
            return self.engine
        if self.endpoint_id is not None:
            return "higgs"
        if self.store.startswith("s3:"):
            raise SettingsError(
                "no endpoint is configured for a store in S3",
                remedy=f"set RUNPOD_HIGGS_ENDPOINT_ID and RUNPOD_API_KEY, or {ASK_FOR_DRAFT}",
            )
        return "draft"

    def model_id(self) -> str:
        """The model id in requests and digests; raises `SettingsError` when it is unknown."""
        if self.engine_in_use() == "draft":
            return DRAFT_MODEL
        if self.model is not None and self.model.startswith("draft/"):
            raise SettingsError(
                f"NARRATION_MODEL is a model of the draft engine ({self.model}), and the engine is higgs",
                remedy=f"set it to the worker's model id, or {ASK_FOR_DRAFT}",
            )
        if self.model is not None:
            return self.model
        raise SettingsError(
            "NARRATION_MODEL is not set, so clips of different models could not be told apart",
            remedy="run `python -m gpu_worker model-id` with the worker's settings and set what it prints",
        )


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment and `.env`, replaced by those of `overrides` that are not None.

    Raises `SettingsError` for the first invalid value, naming its variable.
    """
    values = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**values)  # type: ignore[arg-type]  # each value is validated by its field
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        name = field if field.isupper() else f"NARRATION_{field.upper()}"
        raise SettingsError(
            f"{name}: {first['msg']}", remedy="correct it in the environment or .env"
        ) from None
