"""The plan of a script, made of what the store holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from narration.chunking import chunk_script
from narration.contract import SynthesisRequest
from narration.errors import InputError, ManifestConflict
from narration.manifest import Manifest, carry_over, load_manifest
from narration.planning.estimate import estimate
from narration.planning.ids import published_id
from narration.planning.plan import Plan, PlannedChunk
from narration.planning.takes import RetakeRequest, checked_request, plan_chunk
from narration.settings import Settings

if TYPE_CHECKING:
    from narration.script import Script
    from narration.store import Store
    from narration.voices.voice import Voice


def make_plan(
    store: Store,
    script: Script,
    *,
    narration_id: str,
    settings: Settings,
    voice: Voice | None,
    script_key: str = "",
    changes: Mapping[int, RetakeRequest] | None = None,
) -> Plan:
    """Plan the narration of `script`: reads the store, writes nothing.

    `changes` maps chunk indices (from 1) to what a person asked for. Raises `InputError`
    for settings, ids, chunks and takes that do not exist, `StoreError` for a store that does not answer.
    """
    engine = settings.engine_in_use()
    model = settings.model_id()
    published = published_id(narration_id, engine)
    found = store.manifests.read(published)
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
        planned.append(plan_chunk(chunk, base, choice, change, previous))
    unknown = sorted(set(changes or {}) - {chunk.index for chunk in chunks})
    if unknown:
        raise InputError(
            f"{published} has no chunk {', '.join(map(str, unknown))}",
            remedy=f"its chunks are numbered 1 to {len(chunks)}",
        )
    clips = store.clips.find_many({entry.digest for entry in planned})
    with_clips = tuple(replace(entry, clip=clips.get(entry.digest)) for entry in planned)
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
    return checked_request(
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
