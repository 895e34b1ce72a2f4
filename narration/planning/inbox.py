"""Which scripts of the inbox wait to be narrated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from narration.errors import Damaged, NarrationError, ScriptError, SettingsError, StoreRefused
from narration.manifest import load_manifest
from narration.planning import narration_slug, published_id
from narration.settings import Settings
from narration.store import ObjectInfo, Store, validate_id
from narration.voices import choose_voice

MAX_TRIES = 3
"""Sweeps that try a script whose failure may pass."""


@dataclass(frozen=True, slots=True)
class WaitingScript:
    """A settled script that no current narration has."""

    key: str
    narration_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class UnreadableScript:
    """Something in the inbox that cannot be a script (`ScriptError`), or that the store does not give."""

    key: str
    error: NarrationError


def find_waiting_scripts(
    store: Store, settings: Settings, *, settle_seconds: float
) -> list[WaitingScript | UnreadableScript]:
    """What the next sweep has to do, oldest first. Reads the store, writes nothing.

    A script counts as narrated when any narration in the current voice and model is made of
    its bytes; a narration's own id is made of its file's name.
    """
    settled = [info for info in store.scripts.list_inbox() if _age(info) >= timedelta(seconds=settle_seconds)]
    if not settled:
        return []
    voice = choose_voice(store.voices, settings)
    narrated = _narrated(store)
    found: list[WaitingScript | UnreadableScript] = []
    named: dict[str, str] = {}
    for info in settled:
        try:
            sha256 = hashlib.sha256(store.scripts.read(info.key)).hexdigest()
            narration_id = _id_for(info.key, settings, named)
        except (ScriptError, StoreRefused, Damaged) as error:
            found.append(UnreadableScript(info.key, error))
            continue
        if (sha256, voice.sha256 if voice else None, settings.model_id()) not in narrated:
            found.append(WaitingScript(info.key, narration_id, sha256))
    return found


def _id_for(key: str, settings: Settings, named: dict[str, str]) -> str:
    """The id that a file's name makes; `ScriptError` for one that another file of the inbox has."""
    try:
        slug = narration_slug(PurePosixPath(key).stem)
        narration_id = validate_id(published_id(slug, settings.engine_in_use()))
    except SettingsError as error:
        raise ScriptError(f"{key}: {error.message}", remedy="give the file another name") from None
    first = named.setdefault(narration_id, key)
    if first != key:
        raise ScriptError(
            f"{key} would be narrated as {narration_id}, and so is {first}",
            remedy="give one of the files another name",
        )
    return narration_id


def _age(info: ObjectInfo) -> timedelta:
    return datetime.now(UTC) - info.modified


def _narrated(store: Store) -> set[tuple[str, str | None, str]]:
    """Script, voice and model of every current narration."""
    known = set()
    for narration_id in store.manifests.ids():
        found = store.manifests.read(narration_id)
        if found is None:
            continue
        try:
            manifest = load_manifest(found[0], name=narration_id)
        except StoreRefused:
            continue  # a newer program's: its own sweep knows it
        voice = manifest.voice.sha256 if manifest.voice else None
        known.add((manifest.script_sha256, voice, manifest.model))
    return known
