"""Publishing a narration in the store, and renewing its review page: the files first, the manifest last."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from narration import audio
from narration.audio.waveform_svg import waveform_path
from narration.errors import BadAudio, Damaged, InputError, ManifestConflict, StoreRefused
from narration.manifest import FileEntry, Manifest, dump_manifest, load_manifest
from narration.planning import Plan
from narration.planning.ids import DRAFT_SUFFIX
from narration.publishing.manifest_builder import build_manifest
from narration.publishing.review import render_review
from narration.rendering.render import READERS, RenderedNarration
from narration.store import LINK_SECONDS, AudioClip, Store, validate_id
from narration.store.clips import ClipCollection
from narration.store.published_files import PublishedFileCollection
from narration.synthesis.report import RunReport
from narration.synthesis.run_state import RunState

MAX_RENEWALS = 5  # tries to renew a page, of which each fails if another run publishes meanwhile

CONTENT_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "html": "text/html; charset=utf-8",
}


def publish(store: Store, rendered: RenderedNarration, state: RunState) -> Manifest:
    """Upload the files of a narration, then replace the manifest that its plan was made with.

    Raises `ManifestConflict` if another run published the narration meanwhile: plan again.
    """
    plan, clips = rendered.narration.plan, rendered.narration.clips
    paths = {
        "mp3": rendered.master.mp3,
        "wav": rendered.master.wav,
        "srt": rendered.srt,
        "vtt": rendered.vtt,
    }
    files = []
    for kind, path in paths.items():
        stem = "captions" if kind in {"srt", "vtt"} else "narration"
        files.append(_publish_file(store.files, plan.narration_id, path, stem, kind))
    manifest = build_manifest(rendered, files, state)
    manifest = _with_review(store, manifest, clips, rendered.waveforms)
    store.manifests.replace(plan.narration_id, dump_manifest(manifest), if_match=plan.etag)
    return manifest


def renew_review(store: Store, narration_id: str) -> str:
    """Publish the review page of a narration again, with new links; returns a link to the page.

    In S3, links to the page and those of its players expire after a week. `narration_id` is that of a
    published narration, with or without `-draft`. Raises `InputError` if the narration is not
    published, and `Damaged` if a clip is missing.
    """
    validate_id(narration_id)
    for _ in range(MAX_RENEWALS - 1):
        try:
            return _renew_review(store, narration_id)
        except ManifestConflict:
            continue
    return _renew_review(store, narration_id)


def _renew_review(store: Store, narration_id: str) -> str:
    stored = store.manifests.read(narration_id) or store.manifests.read(narration_id + DRAFT_SUFFIX)
    if stored is None:
        raise InputError(
            f"{store.location} has no narration {narration_id}", remedy="narrate it first, or name its store"
        )
    data, etag = stored
    manifest = load_manifest(data, name=f"the manifest of {narration_id}")
    if manifest.id not in {narration_id, narration_id + DRAFT_SUFFIX}:
        raise StoreRefused(
            f"the manifest of {narration_id} is of another narration", remedy="restore it from a backup"
        )
    digests = {chunk.digest: chunk.index for chunk in manifest.chunks}
    clips = store.clips.find_many(digests)
    for digest, index in digests.items():
        if digest not in clips:
            raise Damaged(f"the clip of chunk {index} is not in the store", remedy="narrate the script again")
    with ThreadPoolExecutor(READERS) as threads:
        paths = threads.map(lambda clip: _waveform(store.clips, clip), clips.values())
        waveforms = dict(zip(clips, paths, strict=True))
    renewed = _with_review(store, manifest, clips, waveforms)
    if renewed != manifest:
        store.manifests.replace(manifest.id, dump_manifest(renewed), if_match=etag)
    page = renewed.file("html")
    assert page is not None  # `_with_review` added it
    return store.link(page.key)


def _waveform(collection: ClipCollection, clip: AudioClip) -> str:
    """The waveform of a stored clip as an SVG path; raises `Damaged` if it cannot be decoded."""
    try:
        return waveform_path(audio.decode(collection.read(clip))[0])
    except BadAudio as error:
        raise Damaged(f"{clip.key} cannot be decoded: {error}", remedy="narrate the script again") from None


def _with_review(
    store: Store, manifest: Manifest, clips: Mapping[str, AudioClip], waveforms: Mapping[str, str]
) -> Manifest:
    """Publish the review page; returns `manifest` with that page in place of an earlier one.

    The page names the clips by relative paths if the store is a folder, by signed links in S3.
    """

    def link(digest: str) -> str:
        key = clips[digest].key
        return store.link(key) if store.is_remote else f"../../{key}"

    expiry = datetime.now(UTC) + timedelta(seconds=LINK_SECONDS) if store.is_remote else None
    html = render_review(manifest, waveforms, link, store=store.location, links_until=expiry)
    with TemporaryDirectory() as folder:
        path = Path(folder, "review.html")
        path.write_text(html, encoding="utf-8")
        page = _publish_file(store.files, manifest.id, path, "review", "html")
    others = (entry for entry in manifest.files if entry.kind != "html")
    return manifest.model_copy(update={"files": (*others, page)})


def _publish_file(
    collection: PublishedFileCollection, narration_id: str, path: Path, stem: str, kind: str
) -> FileEntry:
    """Publish the file at `path`; its entry for the manifest."""
    published = collection.publish(narration_id, path, stem, f".{kind}", CONTENT_TYPES[kind])
    return FileEntry.model_validate(
        {
            "kind": kind,
            "key": published.key,
            "sha256": published.sha256,
            "size": published.size,
            "content_type": CONTENT_TYPES[kind],
        }
    )


def report_of(store: Store, plan: Plan, manifest: Manifest, state: RunState) -> RunReport:
    """The report of the run that published `manifest`, with the locations of its files."""
    return state.report(
        plan,
        manifest=store.locate(f"narrations/{plan.narration_id}/manifest.json"),
        files={entry.kind: store.locate(entry.key) for entry in manifest.files},
        duration=manifest.duration,
        flagged=tuple(entry.index for entry in manifest.chunks if entry.flags),
    )
