"""Rendering a narration: the clips of a plan become the master, the captions and the waveforms."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from narration import audio
from narration.audio.clip_shape import ClipShape, shape_of
from narration.audio.files import Waveform
from narration.audio.waveform_svg import waveform_path
from narration.chunking import Chunk
from narration.chunking.sentences import split_sentences
from narration.errors import BadAudio, Damaged, MasteringError
from narration.planning import PlannedChunk, SynthesizedNarration
from narration.rendering import captions
from narration.rendering.captions import Cue
from narration.rendering.master import PRESETS, Master, write_master
from narration.rendering.timeline import Pauses, Timeline, arrange
from narration.settings import RENDER_SETTINGS, Settings
from narration.store import AudioClip, ClipCollection

REVISION = 1
"""Part of the fingerprint. Raised if the same clips are to be arranged, mastered or captioned otherwise."""

READERS = 8  # clips read from the store at once
MEASURING_THREADS = 2  # each needs a processor, and some MB of memory that the process keeps


@dataclass(frozen=True, slots=True)
class RenderedNarration:
    """A narration with its audio and captions in files on disk."""

    narration: SynthesizedNarration
    timeline: Timeline
    master: Master
    cues: tuple[Cue, ...]
    srt: Path
    vtt: Path
    waveforms: Mapping[str, str]  # digest of a clip -> SVG path, for the review page


def narration_fingerprint(narration: SynthesizedNarration) -> str:
    """SHA-256 of all that a published narration is made of; a narration with the same one is not published.

    The names and values of `content` must stay as they are: fingerprints are stored in manifests.
    """
    plan, clips = narration.plan, narration.clips
    content = {
        "revision": REVISION,
        "title": plan.script.title,
        "script": plan.script.sha256,
        "engine": plan.engine,
        "voice": plan.voice.name if plan.voice else None,
        "finish": render_settings(plan.settings),
        "chunks": [
            {
                "source": planned.chunk.text,
                "sentences": planned.chunk.sentences,
                "text": planned.text,
                "boundary": planned.chunk.boundary,
                "kind": planned.chunk.kind,
                "take": planned.take,
                "takes": [entry.model_dump() for entry in planned.take_history.takes],
                "clip": clips[planned.digest].sidecar.sha256,
            }
            for planned in plan.chunks
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def render_settings(settings: Settings) -> dict[str, object]:
    """The settings of rendering, by name; they change the master and not the clips."""
    return {name: getattr(settings, name) for name in RENDER_SETTINGS}


def render(
    collection: ClipCollection,
    narration: SynthesizedNarration,
    folder: Path,
    stop: threading.Event | None = None,
) -> RenderedNarration:
    """Write the master and the captions of `narration` into `folder`.

    Each clip is read from `collection` once and checked against its SHA-256. If clips are damaged, they
    are deleted from the store and `Damaged` is raised; the next plan has them synthesized again.
    Raises `MasteringError` if ffmpeg fails, `stop` is set, or a file cannot be written.
    """
    with explain_disk_errors(folder):
        return _render(collection, narration, folder, stop)


@contextmanager
def explain_disk_errors(folder: Path | str) -> Iterator[None]:
    """Raise an error of the file system in `folder` as a `MasteringError` with a remedy."""
    try:
        yield
    except OSError as error:
        raise MasteringError(
            f"the narration cannot be put together in {folder}: {error.strerror or error}",
            remedy="free some space there, or set TMPDIR to a folder with room, and run again",
        ) from None


def _render(
    collection: ClipCollection,
    narration: SynthesizedNarration,
    folder: Path,
    stop: threading.Event | None,
) -> RenderedNarration:
    plan, settings = narration.plan, narration.plan.settings
    paths = _copy_clips(collection, narration, folder)
    with ThreadPoolExecutor(MEASURING_THREADS) as threads:
        measured = dict(zip(paths, threads.map(_measure, paths.values()), strict=True))
    shapes = [measured[planned.digest][0] for planned in plan.chunks]
    chunks = [_as_spoken(planned) for planned in plan.chunks]
    pauses = Pauses(settings.pause_sentence, settings.pause_paragraph, settings.pause_heading)
    timeline = arrange(chunks, shapes, pauses)
    path_of_chunk = {planned.chunk.index: paths[planned.digest] for planned in plan.chunks}
    master = write_master(
        timeline,
        lambda index: _decode(path_of_chunk[index])[0],
        folder,
        PRESETS[settings.loudness],
        ffmpeg_path=settings.ffmpeg,
        stop=stop,
    )
    cues = captions.make_cues(chunks, timeline, shapes)
    srt, vtt = folder / "captions.srt", folder / "captions.vtt"
    srt.write_bytes(captions.to_srt(cues).encode())
    vtt.write_bytes(captions.to_vtt(cues).encode())
    waveforms = {digest: waveform for digest, (_, waveform) in measured.items()}
    return RenderedNarration(narration, timeline, master, cues, srt, vtt, waveforms)


def _copy_clips(collection: ClipCollection, narration: SynthesizedNarration, folder: Path) -> dict[str, Path]:
    """Copy each distinct clip into `folder`, several at once; digest -> path, in order of use.

    Raises `Damaged` only after all clips were read, so that the next plan replaces every damaged one.
    """
    clips = {planned.digest: narration.clips[planned.digest] for planned in narration.plan.chunks}

    def copy(clip: AudioClip) -> Path | Damaged:
        path = folder / f"{clip.digest}.flac"
        try:
            path.write_bytes(collection.read(clip))
        except Damaged as error:
            collection.delete_if_damaged(clip.digest)
            return error
        return path

    paths: dict[str, Path] = {}
    errors: list[Damaged] = []
    with ThreadPoolExecutor(READERS) as threads:
        for digest, outcome in zip(clips, threads.map(copy, clips.values()), strict=True):
            if isinstance(outcome, Damaged):
                errors.append(outcome)
            else:
                paths[digest] = outcome
    if errors:
        raise errors[0]
    return paths


def _measure(path: Path) -> tuple[ClipShape, str]:
    """The shape of a clip, and its waveform as an SVG path."""
    waveform, rate = _decode(path)
    return shape_of(waveform, rate), waveform_path(waveform)


def _decode(path: Path) -> tuple[Waveform, int]:
    try:
        return audio.decode(path.read_bytes())
    except BadAudio as error:
        raise Damaged(f"{path.name} cannot be decoded: {error}") from None


def _as_spoken(planned: PlannedChunk) -> Chunk:
    """The chunk with the text that is spoken: the source text, or that of its take."""
    if planned.text == planned.chunk.text:
        return planned.chunk
    return replace(planned.chunk, text=planned.text, sentences=tuple(split_sentences(planned.text)))
