"""The manifest of a narration: its published files, timing and cost, and the takes of its chunks."""

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
    """Base of all entries. Unknown fields, which a later version may write, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VoiceEntry(_Entry):
    """The cloned voice of the narration."""

    name: str
    sha256: Sha256
    transcript: str


class FileEntry(_Entry):
    """A published file. Its `key` in the store holds its content hash, and it is never overwritten."""

    kind: Literal["wav", "mp3", "srt", "vtt", "html"]
    key: str
    sha256: Sha256
    size: int  # bytes
    content_type: str


class LoudnessEntry(_Entry):
    """The loudness of the master as measured on its samples (EBU R128)."""

    preset: str
    target_lufs: float
    integrated_lufs: float
    true_peak_dbtp: float
    gain_db: float
    limited: bool
    on_target: bool


class ChapterEntry(_Entry):
    """A chapter, which a heading begins; `start` and `end` in seconds of the master."""

    title: str
    level: int
    start: float
    end: float


class TakeEntry(_Entry):
    """One take of a chunk, with all that is needed to request it again."""

    take: Annotated[int, Field(ge=1)]
    digest: Sha256
    seed: int | None = None  # requested by a person; None: derived from the digest
    text: str | None = None  # spoken instead of the source text
    asked_by: str | None = None  # id of the run that requested it


class ChunkEntry(_Entry):
    """A chunk as it is spoken in the narration; times in seconds of the master."""

    index: Annotated[int, Field(ge=1)]
    source_text: str
    text: str  # as spoken: the source text, or that of the take
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
    flags: tuple[str, ...] = ()  # faults of the clip, which was kept because no attempt had none
    notes: tuple[str, ...] = ()  # remarks on the clip that are no faults
    score: float = 1.0  # quality of the clip from 0 to 1, by which the review page is sorted
    refused: tuple[str, ...] = ()  # why earlier attempts were not kept
    cached: bool
    execution_seconds: float = 0.0
    model: str
    engine: JsonObject = Field(default_factory=dict)


class CueEntry(_Entry):
    """One caption; `aligned`: both its ends are at measured pauses or edges of a clip."""

    index: int
    chunk: int
    start: float
    end: float
    text: str
    aligned: bool


class CostEntry(_Entry):
    """The cost of the run that published: its jobs' seconds in slots, and USD at the price set."""

    jobs: int
    execution_seconds: float
    price_per_second: float
    price: float
    speech_seconds: float  # of the clips synthesized in that run


class Manifest(_Entry):
    """The content of `narrations/<id>/manifest.json`. `samples` is exact; `duration` is in seconds."""

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
        """The published file of `kind`, or None."""
        return next((entry for entry in self.files if entry.kind == kind), None)


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, as published in `manifest.schema.json`."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "narration-manifest-1.json"}
    return head | Manifest.model_json_schema(mode="serialization")


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is published: UTF-8 JSON with its fields in a fixed order."""
    return (json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n").encode()


def load_manifest(data: bytes, *, name: str) -> Manifest:
    """Read a manifest; errors call it `name`. Raises `StoreRefused` for a newer schema or other bytes."""
    try:
        fields = from_json(data, allow_inf_nan=False)
        version = int(fields["schema_version"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreRefused(
            f"{name} is not a manifest: {type(error).__name__}",
            remedy="restore it from a backup, or delete it to publish anew without its takes",
        ) from None
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"{name} has schema version {version}; this program knows {SCHEMA_VERSION}",
            remedy="update this program; it does not replace a manifest that it cannot read",
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StoreRefused(
            f"{name} is not a manifest: {field}: {first['msg']}",
            remedy="restore it from a backup, or delete it to publish anew without its takes",
        ) from None


@dataclass(frozen=True, slots=True)
class TakeHistory:
    """The takes of one chunk: the number of the current one, and all that were made."""

    take: int
    takes: tuple[TakeEntry, ...]

    @property
    def current(self) -> TakeEntry | None:
        """The entry of the current take, or None if there is none."""
        return next((entry for entry in self.takes if entry.take == self.take), None)


def carry_over(
    manifest: Manifest | None, texts: Sequence[str]
) -> tuple[list[TakeHistory | None], list[ChunkEntry]]:
    """The takes that `manifest` holds for chunks with these source texts, in the order of `texts`.

    The nth chunk with a text gets the takes of the nth entry with the same source text, or None. Also
    returns the entries that no text matches although a person chose something for them: another take
    than the first, or another text.
    """
    entries: dict[tuple[str, int], ChunkEntry] = {}
    if manifest is not None:
        occurrences: Counter[str] = Counter()
        for entry in manifest.chunks:
            entries[entry.source_text, occurrences[entry.source_text]] = entry
            occurrences[entry.source_text] += 1
    histories: list[TakeHistory | None] = []
    matched: Counter[str] = Counter()
    for text in texts:
        match = entries.pop((text, matched[text]), None)
        matched[text] += 1
        histories.append(TakeHistory(match.take, match.takes) if match else None)
    dropped = [entry for entry in entries.values() if len(entry.takes) > 1 or entry.text != entry.source_text]
    return histories, dropped
