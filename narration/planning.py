"""What a narration needs, decided before anything is paid: requests, identities, clips, price."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from narration.chunking import Chunk, chunk_script
from narration.contract import FRAME_RATE, MIN_FRAME_CAP, SynthesisRequest, digest
from narration.errors import InputError, ManifestConflict, SettingsError
from narration.manifest import Choice, ChunkEntry, Manifest, TakeEntry, carry_over, load_manifest
from narration.pace import expected_seconds
from narration.settings import ASSUMED_SPEED, Engine, Settings

if TYPE_CHECKING:
    from narration.script import Script
    from narration.store import AudioClip, Store
    from narration.voices import Voice

DRAFT_SUFFIX = "-draft"
MAX_FRAME_CAP = 8_192  # of the contract


@dataclass(frozen=True, slots=True)
class Change:
    """What a person asks of one chunk: another take (`take` None), or one made before."""

    take: int | None = None
    seed: int | None = None
    text: str | None = None
    asked_by: str | None = None  # the run that asks: asking again makes no further take


def changes_for(
    chunks: Sequence[int],
    *,
    seed: int | None,
    texts: Mapping[int, str],
    take: int | None,
    asked_by: str | None = None,
) -> dict[int, Change]:
    """Changes to `chunks` (from 1) as a retake asks for them; raises `InputError` for contradictions."""
    strays = sorted(set(texts) - set(chunks))
    if strays:
        raise InputError(f"text is given for chunk {strays[0]}, which is not among those to take again")
    if take is not None and (seed is not None or texts):
        raise InputError("an earlier take has its own seed and text", remedy="give --take alone")
    blank = [index for index, text in texts.items() if not text.strip()]
    if blank:
        raise InputError(f"the text for chunk {blank[0]} is empty")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"the seed {seed} is not between 0 and 2^63")
    return {index: Change(take=take, seed=seed, text=texts.get(index), asked_by=asked_by) for index in chunks}


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A chunk with what to ask the worker for. `request` holds no sample and no context: those travel."""

    chunk: Chunk
    request: SynthesisRequest
    digest: str
    previous: str | None  # identity of the clip its continuity context is cut from
    choice: Choice
    clip: AudioClip | None  # in the store when the plan was made

    @property
    def text(self) -> str:
        """The words as sent."""
        return self.request.prompt


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the missing clips are expected to take. Prices in USD."""

    speech_seconds: float  # of the whole narration
    missing_seconds: float  # of speech not stored yet
    gpu_seconds: float
    price: float
    price_per_second: float
    speed: float  # seconds of speech per GPU second
    speed_measured: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs to know. `manifest` is the one to replace, `etag` its version in the store."""

    narration_id: str
    script: Script
    script_key: str  # where the store keeps it; empty while nothing was stored
    engine: Engine
    model: str
    voice: Voice | None
    chunks: tuple[PlannedChunk, ...]
    estimate: Estimate
    manifest: Manifest | None
    etag: str | None
    dropped: tuple[ChunkEntry, ...]  # choices that no chunk of this script takes over

    @property
    def missing(self) -> dict[str, PlannedChunk]:
        """The distinct clips to synthesize, in script order: digest -> first chunk that needs it."""
        needed: dict[str, PlannedChunk] = {}
        for planned in self.chunks:
            if planned.clip is None:
                needed.setdefault(planned.digest, planned)
        return needed

    @property
    def cached(self) -> int:
        """How many chunks have their clip in the store."""
        return sum(planned.clip is not None for planned in self.chunks)


def narration_slug(name: str) -> str:
    """An id made of a file's name: lowercase letters, digits and hyphens."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80].strip("-")
    return slug or "narration"


def published_id(narration_id: str, engine: Engine) -> str:
    """The id a narration is published under: a draft's always ends with `-draft`, no other's ever does."""
    if engine == "draft":
        return narration_id if narration_id.endswith(DRAFT_SUFFIX) else narration_id + DRAFT_SUFFIX
    if narration_id.endswith(DRAFT_SUFFIX):
        raise SettingsError(
            f"the id {narration_id!r} is a draft's", remedy=f"leave {DRAFT_SUFFIX!r} out, or say engine=draft"
        )
    return narration_id


def make_plan(
    store: Store,
    script: Script,
    *,
    narration_id: str,
    settings: Settings,
    voice: Voice | None,
    script_key: str = "",
    changes: Mapping[int, Change] | None = None,
) -> Plan:
    """Plan the narration of `script`: reads the store, writes nothing.

    `changes` maps chunk indices (from 1) to what a person asked for. Raises `InputError`
    for settings, ids, chunks and takes that do not exist, `StoreError` for a store that does not answer.
    """
    engine = settings.engine_in_use()
    model = settings.model_id()
    published = published_id(narration_id, engine)
    found = store.read_manifest(published)
    manifest = load_manifest(found[0], name=f"narrations/{published}/manifest.json") if found else None
    if changes and manifest is not None:
        _require_same(manifest, script, model, voice)
    chunks = chunk_script(script, limit=settings.chunk_characters)
    choices, dropped = carry_over(manifest, [chunk.text for chunk in chunks])
    base = _base_request(settings, model, voice)
    planned: list[PlannedChunk] = []
    for chunk, choice in zip(chunks, choices, strict=True):
        change = (changes or {}).get(chunk.index)
        previous = planned[-1].digest if settings.continuity and _same_paragraph(planned) else None
        planned.append(_plan_chunk(chunk, base, choice, change, previous))
    unknown = sorted(set(changes or {}) - {chunk.index for chunk in chunks})
    if unknown:
        raise InputError(
            f"{published} has no chunk {', '.join(map(str, unknown))}",
            remedy=f"its chunks are numbered 1 to {len(chunks)}",
        )
    clips = store.find_clips({entry.digest for entry in planned})
    with_clips = tuple(
        PlannedChunk(
            entry.chunk, entry.request, entry.digest, entry.previous, entry.choice, clips.get(entry.digest)
        )
        for entry in planned
    )
    return Plan(
        narration_id=published,
        script=script,
        script_key=script_key,
        engine=engine,
        model=model,
        voice=voice,
        chunks=with_clips,
        estimate=estimate(with_clips, settings, engine),
        manifest=manifest,
        etag=found[1] if found else None,
        dropped=tuple(dropped),
    )


def _require_same(manifest: Manifest, script: Script, model: str, voice: Voice | None) -> None:
    """Chunks are taken again in the narration they are of: another one would be spoken whole."""
    if manifest.script_sha256 != script.sha256:
        raise ManifestConflict(f"{manifest.id} was narrated from another script meanwhile")
    sample = manifest.voice.sha256 if manifest.voice else None
    if manifest.model != model or sample != (voice.sha256 if voice else None):
        raise InputError(
            f"{manifest.id} was made with the model {manifest.model} in another voice or by another model",
            remedy="narrate it again with the present settings first, or restore those it was made with",
        )


def _same_paragraph(planned: Sequence[PlannedChunk]) -> bool:
    return bool(planned) and planned[-1].chunk.boundary == "sentence"


def _base_request(settings: Settings, model: str, voice: Voice | None) -> SynthesisRequest:
    """The request that all chunks share, every default resolved; the prompt is each chunk's own."""
    return SynthesisRequest(
        prompt="-",
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        seed=settings.seed,
        audio_transcript=voice.transcript if voice else None,
        audio_sha256=voice.sha256 if voice else None,
        system_prompt=settings.system_prompt,
        scene=settings.scene,
        ras_win_len=settings.ras_win_len,
        ras_win_max_num_repeat=settings.ras_win_max_num_repeat,
        audio_format="flac",
        model=model,
    )


def _plan_chunk(
    chunk: Chunk,
    base: SynthesisRequest,
    remembered: Choice | None,
    change: Change | None,
    previous: str | None,
) -> PlannedChunk:
    takes = remembered.takes if remembered else ()
    current = remembered.current if remembered else None
    take = current.take if current else 1
    seed, text = (current.seed, current.text) if current else (None, None)
    if change is not None:
        if change.take is not None and (back := _find_take(takes, change.take)):
            take, seed, text = back.take, back.seed, back.text
        elif change.take is not None:
            known = ", ".join(str(entry.take) for entry in takes) or "none yet"
            raise InputError(f"chunk {chunk.index} has no take {change.take}", remedy=f"takes made: {known}")
        elif asked := _find_asked(takes, change.asked_by):
            take, seed, text = asked.take, asked.seed, asked.text
        else:
            take = max((entry.take for entry in takes), default=1) + 1
            seed = change.seed
            text = change.text if change.text is not None else text
    request = _request_for(base, text if text is not None else chunk.text, seed)
    identity = digest(request, take=take, previous=previous)
    asked_by = change.asked_by if change and change.take is None else _asker(takes, take)
    made = TakeEntry(take=take, digest=identity, seed=seed, text=text, asked_by=asked_by)
    others = [entry for entry in takes if entry.take != take]
    if not takes and take > 1:
        first = _request_for(base, chunk.text, None)
        others.append(TakeEntry(take=1, digest=digest(first, previous=previous)))
    choice = Choice(take, tuple(sorted([*others, made], key=lambda entry: entry.take)))
    return PlannedChunk(chunk, request, identity, previous, choice, clip=None)


def _find_take(takes: Sequence[TakeEntry], number: int) -> TakeEntry | None:
    return next((entry for entry in takes if entry.take == number), None)


def _find_asked(takes: Sequence[TakeEntry], run: str | None) -> TakeEntry | None:
    return next((entry for entry in takes if run is not None and entry.asked_by == run), None)


def _asker(takes: Sequence[TakeEntry], number: int) -> str | None:
    found = _find_take(takes, number)
    return found.asked_by if found else None


def _request_for(base: SynthesisRequest, text: str, seed: int | None) -> SynthesisRequest:
    """`base` speaking `text`, capped at twice the frames it is expected to take."""
    expected = expected_seconds(text) * FRAME_RATE
    changes: dict[str, object] = {
        "prompt": text,
        "max_new_tokens": min(MAX_FRAME_CAP, max(MIN_FRAME_CAP, round(2 * expected))),
    }
    if seed is not None:
        changes["seed"] = seed
    try:
        return SynthesisRequest.model_validate(base.model_dump() | changes)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(f"{first['loc'][0] if first['loc'] else 'request'}: {first['msg']}") from None


def estimate(chunks: Sequence[PlannedChunk], settings: Settings, engine: Engine) -> Estimate:
    """Seconds and price of what is missing; each distinct clip is counted once."""
    total = sum(
        entry.clip.seconds if entry.clip else expected_seconds(entry.request.prompt) for entry in chunks
    )
    distinct = {entry.digest: entry.request.prompt for entry in chunks if entry.clip is None}
    missing = sum(expected_seconds(text) for text in distinct.values())
    speed = settings.speed or ASSUMED_SPEED
    paid = engine != "draft"
    gpu_seconds = missing / speed if paid else 0.0
    return Estimate(
        speech_seconds=total,
        missing_seconds=missing,
        gpu_seconds=gpu_seconds,
        price=gpu_seconds * settings.price_per_second if paid else 0.0,
        price_per_second=settings.price_per_second if paid else 0.0,
        speed=speed,
        speed_measured=settings.speed is not None,
    )
