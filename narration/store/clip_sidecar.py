"""The sidecar of a clip: the JSON beside its audio that identifies the clip and tells how it was made."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from narration.contract import Sha256
from narration.json_object import JsonObject

UtcTime = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$")]
"""A time in ISO 8601, as `datetime.now(UTC).isoformat()` writes it."""


class ClipJob(TypedDict):
    """The job that returned a clip; times in milliseconds, as the endpoint reported them."""

    id: str
    endpoint: str
    execution_ms: int | None
    delay_ms: int | None


class RefusedAttempt(TypedDict):
    """An attempt whose audio was not kept, and why."""

    attempt: int
    seed: int
    reason: str


class ClipQuality(TypedDict, total=False):
    """What was measured of a clip: faults that no attempt was free of, notes, and a score from 0 to 1."""

    faults: list[str]
    notes: list[str]
    score: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="ignore"))
class ClipSidecar:
    """What identifies a clip, how it was made, and how good it is.

    `size` and `sha256` are of the FLAC file's bytes; `samples` is the clip's length at `sample_rate` Hz.
    A slotted dataclass and no pydantic model, since a run keeps one for each clip and a model takes five
    times the memory.
    """

    schema_version: int = 1
    digest: Sha256
    samples: Annotated[int, Field(gt=0)]
    sample_rate: Annotated[int, Field(gt=0)]
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256
    text: Annotated[str, Field(min_length=1)]
    model: str
    seed: int
    take: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=0)]
    finish_reason: str
    created: UtcTime
    job: ClipJob | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    engine: JsonObject = Field(default_factory=dict)
    quality: ClipQuality = Field(default_factory=ClipQuality)
    refused: list[RefusedAttempt] = Field(default_factory=list)

    def to_json(self) -> bytes:
        """The sidecar as it is stored."""
        return _SIDECARS.dump_json(self)


def parse_sidecar(data: bytes) -> ClipSidecar | None:
    """Return the sidecar that `data` is; None for anything else."""
    try:
        return _SIDECARS.validate_json(data)
    except ValidationError:
        return None


_SIDECARS = TypeAdapter(ClipSidecar)
