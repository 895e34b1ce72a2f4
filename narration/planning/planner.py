"""Planning a narration: its script in chunks, each with a request, a digest and, if stored, its clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from narration.chunking import Chunk, chunk_script
from narration.contract import SynthesisRequest
from narration.errors import InputError, ManifestConflict
from narration.manifest import Manifest, VoiceEntry, carry_over, load_manifest
from narration.planning.estimate import estimate_cost
from narration.planning.ids import published_id
from narration.planning.plan import NarrationSource, Plan, PlannedChunk
from narration.planning.takes import RetakeRequest, checked_request, plan_chunk
from narration.settings import Settings

if TYPE_CHECKING:
    from narration.script import Script
    from narration.store import Store
    from narration.voices.voice import Voice


def make_plan(
    store: Store,
    source: NarrationSource,
    *,
    narration_id: str,
    voice: Voice | None,
    retakes: Mapping[int, RetakeRequest] | None = None,
) -> Plan:
    """Plan the narration of `source` in `voice`: reads the store, writes nothing.

    `retakes` maps chunk numbers (from 1) to what a person asks for. Raises `InputError` for settings,
    ids, chunks and takes that do not exist, and `StoreError` for a store that does not answer.
    """
    script, settings = source.script, source.settings
    engine, model = settings.engine_in_use(), settings.model_id()
    retakes = retakes or {}
    published = published_id(narration_id, engine)
    stored = store.manifests.read(published)
    manifest = load_manifest(stored[0], name=f"narrations/{published}/manifest.json") if stored else None
    if retakes and manifest is not None:
        _require_same_narration(manifest, script, model, voice)
    chunks = chunk_script(script, limit=settings.chunk_characters)
    histories, dropped = carry_over(manifest, [chunk.text for chunk in chunks])
    base = _base_request(settings, model, voice)
    planned: list[PlannedChunk] = []
    for chunk, history in zip(chunks, histories, strict=True):
        previous = planned[-1].digest if settings.continuity and _same_paragraph(planned) else None
        planned.append(plan_chunk(chunk, base, history, retakes.get(chunk.index), previous))
    _require_chunks_exist(retakes, chunks, published)
    clips = store.clips.find_many({entry.digest for entry in planned})
    with_clips = tuple(replace(entry, clip=clips.get(entry.digest)) for entry in planned)
    return Plan(
        narration_id=published,
        script=script,
        script_key=source.key,
        settings=settings,
        engine=engine,
        model=model,
        voice=voice,
        chunks=with_clips,
        estimate=estimate_cost(with_clips, settings, engine),
        manifest=manifest,
        etag=stored[1] if stored else None,
        dropped=tuple(dropped),
    )


def _require_same_narration(manifest: Manifest, script: Script, model: str, voice: Voice | None) -> None:
    """Refuse a retake in another script, model or voice, which would synthesize every chunk anew."""
    if manifest.script_sha256 != script.sha256:
        raise ManifestConflict(f"{manifest.id} was narrated from another script meanwhile")
    if manifest.model != model or _sample(manifest.voice) != _sample(voice):
        raise InputError(
            f"{manifest.id} was narrated by the model {manifest.model} {_in_voice(manifest.voice)}; "
            f"the present settings choose the model {model} {_in_voice(voice)}",
            remedy="restore the settings it was narrated with, or narrate it again with the present ones",
        )


def _sample(voice: Voice | VoiceEntry | None) -> str | None:
    return voice.sha256 if voice else None


def _in_voice(voice: Voice | VoiceEntry | None) -> str:
    return f"in the voice {voice.name} (sample {voice.sha256[:8]})" if voice else "without a voice sample"


def _require_chunks_exist(retakes: Mapping[int, RetakeRequest], chunks: Sequence[Chunk], name: str) -> None:
    unknown = sorted(set(retakes) - {chunk.index for chunk in chunks})
    if unknown:
        raise InputError(
            f"{name} has no chunk {', '.join(map(str, unknown))}",
            remedy=f"its chunks are numbered 1 to {len(chunks)}",
        )


def _same_paragraph(planned: Sequence[PlannedChunk]) -> bool:
    """Whether the next chunk is in the paragraph of the last one planned."""
    return bool(planned) and planned[-1].chunk.boundary == "sentence"


def _base_request(settings: Settings, model: str, voice: Voice | None) -> SynthesisRequest:
    """The request that all chunks share, with every default resolved; the prompt is a placeholder."""
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
