"""The published index of a narration, and the memory of every choice made about its chunks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from narration.contract import Sha256
from narration.errors import StoreRefused
from narration.json_object import JsonObject

SCHEMA_VERSION = 1


class _Entry(BaseModel):
    """Base of all entries: frozen; unknown fields of a later minor writer are kept out, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VoiceEntry(_Entry):
    """The voice that speaks."""

    name: str
    sha256: Sha256
    transcript: str


class FileEntry(_Entry):
    """A published file: `key` in the store carries its content hash and is never overwritten."""

    kind: Literal["wav", "mp3", "srt", "vtt", "html"]
    key: str
    sha256: Sha256
    size: int  # bytes
    content_type: str


class LoudnessEntry(_Entry):
    """Loudness as measured on the finished master (EBU R128)."""

    preset: str
    target_lufs: float
    integrated_lufs: float
    true_peak_dbtp: float
    gain_db: float
    limited: bool
    on_target: bool


class ChapterEntry(_Entry):
    """A heading as a chapter; `start` and `end` in seconds."""

    title: str
    level: int
    start: float
    end: float


class TakeEntry(_Entry):
    """One take made of a chunk: what to ask for to have it again."""

    take: Annotated[int, Field(ge=1)]
    digest: Sha256
    seed: int | None = None  # asked for by a person; None lets the digest decide
    text: str | None = None  # override of the source text
    asked_by: str | None = None  # the run that asked for it


class ChunkEntry(_Entry):
    """A chunk as it is spoken in this narration; times in seconds of the master."""

    index: Annotated[int, Field(ge=1)]
    source_text: str
    text: str  # as sent: the source text or the take's override
    kind: Literal["heading", "text"]
    boundary: str
    digest: Sha256
    take: Annotated[int, Field(ge=1)]
    takes: tuple[TakeEntry, ...]
    start: float
    end: float
    gain_db: float
    seed: int
    attempt: int
    flags: tuple[str, ...] = ()  # faults that no attempt was free of
    notes: tuple[str, ...] = ()
    score: float = 1.0  # 0 to 1, by its signal; orders the review page
    refused: tuple[str, ...] = ()
    cached: bool
    execution_seconds: float = 0.0
    model: str
    engine: JsonObject = Field(default_factory=dict)


class CueEntry(_Entry):
    """One caption; `aligned` says whether its inner boundary sits in a measured pause."""

    index: int
    chunk: int
    start: float
    end: float
    text: str
    aligned: bool


class CostEntry(_Entry):
    """What the latest run paid: worker seconds as reported, USD at the price set."""

    jobs: int
    execution_seconds: float
    price_per_second: float
    price: float
    speech_seconds: float  # of the clips synthesized in that run


class Manifest(_Entry):
    """`narrations/<id>/manifest.json`. Sample positions are exact in `samples`; seconds are for people."""

    schema_version: int = SCHEMA_VERSION
    id: str
    title: str | None
    created: str  # ISO 8601, UTC
    engine: Literal["draft", "higgs"]
    model: str
    voice: VoiceEntry | None
    script_key: str
    script_sha256: Sha256
    settings: JsonObject
    fingerprint: Sha256  # of everything the master and captions were made from
    sample_rate: int
    samples: int
    duration: float  # s
    loudness: LoudnessEntry
    files: tuple[FileEntry, ...]
    chapters: tuple[ChapterEntry, ...]
    chunks: tuple[ChunkEntry, ...]
    cues: tuple[CueEntry, ...]
    cost: CostEntry

    def file(self, kind: str) -> FileEntry | None:
        """The published file of that kind."""
        return next((entry for entry in self.files if entry.kind == kind), None)


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, as published in `manifest.schema.json`."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "narration-manifest-1.json"}
    return head | Manifest.model_json_schema(mode="serialization")


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as published: UTF-8 JSON, stable order."""
    return (json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n").encode()


def load_manifest(data: bytes, *, name: str) -> Manifest:
    """Read a manifest back; `StoreRefused` for a newer schema or bytes that are not a manifest."""
    try:
        fields = from_json(data, allow_inf_nan=False)
        version = int(fields["schema_version"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreRefused(
            f"{name} is not a manifest: {type(error).__name__}",
            remedy="restore it from a backup, or delete it to publish afresh; its takes would be forgotten",
        ) from None
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"{name} has schema version {version}; this program knows {SCHEMA_VERSION}",
            remedy="update this program; it will not write over what it cannot read",
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StoreRefused(
            f"{name} is not a manifest: {field}: {first['msg']}",
            remedy="restore it from a backup, or delete it to publish afresh; its takes would be forgotten",
        ) from None


@dataclass(frozen=True, slots=True)
class TakeHistory:
    """What was chosen for one chunk: the current take, and all takes made."""

    take: int
    takes: tuple[TakeEntry, ...]

    @property
    def current(self) -> TakeEntry | None:
        """The record of the current take."""
        return next((entry for entry in self.takes if entry.take == self.take), None)


def carry_over(
    manifest: Manifest | None, texts: Sequence[str]
) -> tuple[list[TakeHistory | None], list[ChunkEntry]]:
    """Choices for chunks whose source text is in `manifest`, nth occurrence to nth.

    Returns one `Choice` or None per text, and the entries whose choices no text took over
    although somebody had chosen (a take beyond the first, or an override).
    """
    remembered: dict[tuple[str, int], ChunkEntry] = {}
    if manifest is not None:
        seen: Counter[str] = Counter()
        for entry in manifest.chunks:
            remembered[entry.source_text, seen[entry.source_text]] = entry
            seen[entry.source_text] += 1
    choices: list[TakeHistory | None] = []
    wanted: Counter[str] = Counter()
    for text in texts:
        found = remembered.pop((text, wanted[text]), None)
        wanted[text] += 1
        choices.append(TakeHistory(found.take, found.takes) if found else None)
    dropped = [
        entry for entry in remembered.values() if len(entry.takes) > 1 or entry.text != entry.source_text
    ]
    return choices, dropped
