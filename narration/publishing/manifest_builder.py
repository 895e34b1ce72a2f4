"""Making the manifest of a rendered narration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from narration.manifest import (
    SCHEMA_VERSION,
    ChapterEntry,
    ChunkEntry,
    CostEntry,
    CueEntry,
    FileEntry,
    LoudnessEntry,
    Manifest,
    VoiceEntry,
)
from narration.planning import Plan, PlannedChunk
from narration.rendering.captions import Cue
from narration.rendering.render import RenderedNarration, narration_fingerprint, render_settings
from narration.rendering.timeline import MASTER_RATE, Placement
from narration.settings import CLIP_SETTINGS
from narration.store import AudioClip
from narration.synthesis.run_state import RunState
from narration.voices.voice import Voice


def build_manifest(rendered: RenderedNarration, files: list[FileEntry], state: RunState) -> Manifest:
    """The manifest of a rendered narration, its published `files`, and the cost of its run."""
    plan, clips = rendered.narration.plan, rendered.narration.clips
    placements = {placement.chunk: placement for placement in rendered.timeline.placements}
    chunks = [
        _chunk_entry(planned, clips[planned.digest], placements[planned.chunk.index], state)
        for planned in plan.chunks
    ]
    loudness = rendered.master.loudness
    return Manifest(
        schema_version=SCHEMA_VERSION,
        id=plan.narration_id,
        title=plan.script.title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        engine=plan.engine,
        model=plan.model,
        voice=_voice_entry(plan.voice),
        script_key=plan.script_key,
        script_sha256=plan.script.sha256,
        settings={name: getattr(plan.settings, name) for name in CLIP_SETTINGS}
        | render_settings(plan.settings),
        fingerprint=narration_fingerprint(rendered.narration),
        sample_rate=MASTER_RATE,
        samples=rendered.timeline.samples,
        duration=rendered.timeline.seconds,
        loudness=LoudnessEntry(
            preset=loudness.preset,
            target_lufs=loudness.target_lufs,
            integrated_lufs=loudness.integrated_lufs,
            true_peak_dbtp=loudness.true_peak_dbtp,
            gain_db=loudness.gain_db,
            limited=loudness.limited,
            on_target=loudness.on_target,
        ),
        files=tuple(files),
        chapters=_chapters(plan, placements, rendered.timeline.samples),
        chunks=tuple(chunks),
        cues=tuple(_cue_entry(cue) for cue in rendered.cues),
        cost=CostEntry(
            jobs=sum(clip.jobs for clip in state.synthesized.values()),
            execution_seconds=round(state.budget.execution_seconds, 3),
            price_per_second=plan.estimate.price_per_second,
            price=round(state.budget.spent, 6),
            speech_seconds=round(
                sum(each.clip.seconds for each in state.synthesized.values() if not each.by_another_run), 3
            ),
        ),
    )


def _voice_entry(voice: Voice | None) -> VoiceEntry | None:
    if voice is None:
        return None
    return VoiceEntry(name=voice.name, sha256=voice.sha256, transcript=voice.transcript)


def _chunk_entry(planned: PlannedChunk, clip: AudioClip, placement: Placement, state: RunState) -> ChunkEntry:
    synthesized = state.synthesized_here(planned.digest)
    sidecar = clip.sidecar
    return ChunkEntry(
        index=planned.chunk.index,
        source_text=planned.chunk.text,
        text=planned.text,
        kind=planned.chunk.kind,
        boundary=planned.chunk.boundary,
        digest=planned.digest,
        take=planned.take,
        takes=planned.take_history.takes,
        start=placement.start / MASTER_RATE,
        end=placement.end / MASTER_RATE,
        gain_db=round(placement.gain_db, 2),
        seed=sidecar.seed,
        attempt=sidecar.attempt,
        flags=tuple(sidecar.quality.get("faults", ())),
        notes=tuple(sidecar.quality.get("notes", ())),
        score=sidecar.quality.get("score", 1.0),
        refused=tuple(entry["reason"] for entry in sidecar.refused),
        cached=synthesized is None,
        execution_seconds=round(synthesized.execution_seconds, 3) if synthesized else 0.0,
        model=sidecar.model,
        engine=sidecar.engine,
    )


def _chapters(plan: Plan, placements: Mapping[int, Placement], samples: int) -> tuple[ChapterEntry, ...]:
    """One chapter for each heading, up to the next heading; its title is as the script writes it."""
    written = {paragraph.text for paragraph in plan.script.paragraphs if paragraph.kind == "heading"}
    headings = [planned.chunk for planned in plan.chunks if planned.chunk.kind == "heading"]
    starts = [placements[chunk.index].start for chunk in headings]
    ends = [*starts[1:], samples][: len(starts)]
    return tuple(
        ChapterEntry(
            title=_as_written(chunk.text, written),
            level=chunk.level,
            start=start / MASTER_RATE,
            end=end / MASTER_RATE,
        )
        for chunk, start, end in zip(headings, starts, ends, strict=True)
    )


def _as_written(heading: str, written: set[str]) -> str:
    """`heading` without the period that chunking adds to it."""
    unpunctuated = heading.removesuffix(".")
    return unpunctuated if heading not in written and unpunctuated in written else heading


def _cue_entry(cue: Cue) -> CueEntry:
    return CueEntry(
        index=cue.index,
        chunk=cue.chunk,
        start=cue.start_seconds,
        end=cue.end_seconds,
        text=cue.text,
        aligned=cue.aligned,
    )
