"""Finds the scripts in the inbox that no current narration was made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from narration.errors import Damaged, NarrationError, ScriptError, SettingsError, StoreRefused
from narration.manifest import load_manifest
from narration.planning import narration_slug, published_id
from narration.settings import Settings
from narration.store import ManifestCollection, ObjectInfo, Store, validate_id
from narration.voices import choose_voice

MAX_TRIES = 3
"""Sweeps that try a script whose failure may be transient."""


@dataclass(frozen=True, slots=True)
class WaitingScript:
    """A settled script that no current narration was made from."""

    key: str
    narration_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class UnreadableScript:
    """An object in the inbox that is no script (`ScriptError`), or that the store cannot read."""

    key: str
    error: NarrationError


def find_waiting_scripts(
    store: Store, settings: Settings, *, settle_seconds: float
) -> list[WaitingScript | UnreadableScript]:
    """The scripts for the next sweep, oldest first: those unchanged for `settle_seconds` and not narrated.

    A script counts as narrated when any narration in the present voice and model was made from the
    same bytes. Its narration id is made from its file's name. Reads the store, writes nothing.
    """
    settled = [info for info in store.scripts.list_inbox() if _age(info) >= timedelta(seconds=settle_seconds)]
    if not settled:
        return []
    voice = choose_voice(store.voices, settings)
    narrated = _narrated_scripts(store.manifests)
    waiting: list[WaitingScript | UnreadableScript] = []
    keys_by_id: dict[str, str] = {}
    for info in settled:
        try:
            sha256 = hashlib.sha256(store.scripts.read(info.key)).hexdigest()
            narration_id = _narration_id(info.key, settings, keys_by_id)
        except (ScriptError, StoreRefused, Damaged) as error:
            waiting.append(UnreadableScript(info.key, error))
            continue
        if (sha256, voice.sha256 if voice else None, settings.model_id()) not in narrated:
            waiting.append(WaitingScript(info.key, narration_id, sha256))
    return waiting


def _narration_id(key: str, settings: Settings, keys_by_id: dict[str, str]) -> str:
    """The id made from a file's name; `ScriptError` for an id that another file in the inbox has."""
    try:
        slug = narration_slug(PurePosixPath(key).stem)
        narration_id = validate_id(published_id(slug, settings.engine_in_use()))
    except SettingsError as error:
        raise ScriptError(f"{key}: {error.message}", remedy="give the file another name") from None
    first = keys_by_id.setdefault(narration_id, key)
    if first != key:
        raise ScriptError(
            f"{key} would be narrated as {narration_id}, and so is {first}",
            remedy="give one of the files another name",
        )
    return narration_id


def _age(info: ObjectInfo) -> timedelta:
    return datetime.now(UTC) - info.modified


def _narrated_scripts(manifests: ManifestCollection) -> set[tuple[str, str | None, str]]:
    """Script SHA-256, voice sample SHA-256 and model of every published narration."""
    narrated = set()
    for narration_id in manifests.ids():
        stored = manifests.read(narration_id)
        if stored is None:
            continue
        try:
            manifest = load_manifest(stored[0], name=narration_id)
        except StoreRefused:
            continue  # of a newer schema: the program that wrote it sweeps its scripts
        voice = manifest.voice.sha256 if manifest.voice else None
        narrated.add((manifest.script_sha256, voice, manifest.model))
    return narrated
