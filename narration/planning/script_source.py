"""Reads a narration's script: from the store, by https, from the allowed folder, or from text in a form."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import ValidationError

from narration.errors import InputError, ScriptError, SettingsError, StoreRefused
from narration.fetch import FetchError, fetch
from narration.manifest import Manifest, load_manifest
from narration.planning.ids import published_id
from narration.planning.plan import NarrationSource
from narration.script import MAX_SCRIPT_BYTES, parse_script, script_suffix
from narration.settings import CLIP_SETTINGS, RENDER_SETTINGS, Settings
from narration.store import ScriptCollection, Store

MAX_TEXT_BYTES = 100_000  # of a script typed into the UI's form
FETCH_SECONDS = 30.0

_NAME_CHARACTERS = 200  # of a file's name, as messages quote it


def read_text(scripts: ScriptCollection, text: str, settings: Settings) -> NarrationSource:
    """The source of a narration whose script is `text`: Markdown, at most 100 kB, which is stored here."""
    data = text.encode(errors="surrogatepass")
    if len(data) > MAX_TEXT_BYTES:
        raise ScriptError(
            f"text: it has {len(data)} bytes, and a form takes {MAX_TEXT_BYTES}",
            remedy="put the script into the store and give its reference",
        )
    script = parse_script(data, name="text", markdown=True)
    return NarrationSource(script, scripts.put(data, ".md"), settings)


def read_reference(scripts: ScriptCollection, reference: str | None, settings: Settings) -> NarrationSource:
    """The source of a narration whose script is at `reference`; a copy of the script is stored here.

    A reference is a key under `scripts/` or `inbox/`, an https URL, or a path in the allowed
    folder. Raises `SettingsError` for a reference of another kind, `ScriptError` for a script that
    cannot be read.
    """
    if not reference:
        raise SettingsError("no script was given", remedy="give `script` a reference, or `text` the words")
    name, data = _read(scripts, reference, settings)
    script = parse_script(data, name=name)
    return NarrationSource(script, scripts.put(data, script_suffix(name)), settings)


def read_published(store: Store, narration_id: str, settings: Settings) -> NarrationSource:
    """The source that a published narration was made from: its script, and `settings` with its own.

    Raises `InputError` for a narration that is not published.
    """
    published = published_id(narration_id, settings.engine_in_use())
    stored = store.manifests.read(published)
    if stored is None:
        raise InputError(
            f"{store.location} has no narration {published}", remedy="narrate it first, or name its store"
        )
    manifest = load_manifest(stored[0], name=f"narrations/{published}/manifest.json")
    script = parse_script(store.scripts.read(manifest.script_key), name=manifest.script_key)
    return NarrationSource(script, manifest.script_key, settings_as_narrated(manifest, settings))


def settings_as_narrated(manifest: Manifest, settings: Settings) -> Settings:
    """`settings` with the voice, the clip settings and the render settings of a published narration.

    No other setting is taken from the manifest, so that a person who can write to the store chooses neither
    where keys are sent nor which program runs. Raises `StoreRefused` for a value that a setting cannot have.
    """
    values = {
        name: manifest.settings[name]
        for name in (*CLIP_SETTINGS, *RENDER_SETTINGS)
        if name in manifest.settings
    }
    if manifest.voice is not None:
        values["voice"] = manifest.voice.name
    try:
        checked = Settings(**values)
    except ValidationError as error:
        name = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"][0]
        raise StoreRefused(
            f"the manifest of {manifest.id} has an invalid value for the setting {name}",
            remedy="restore it from a backup, or narrate again",
        ) from None
    return settings.model_copy(update={name: getattr(checked, name) for name in values})


def _read(scripts: ScriptCollection, reference: str, settings: Settings) -> tuple[str, bytes]:
    """The name and the bytes of the script at `reference`."""
    if reference.startswith(("scripts/", "inbox/")):
        return PurePosixPath(reference).name, scripts.read(reference)
    try:
        scheme = urlsplit(reference).scheme.lower()
    except ValueError:
        raise SettingsError("script: the reference is neither a path nor a URL") from None
    if scheme == "https":
        return _fetch(reference, settings)
    if scheme in {"http", "file", "s3"}:
        raise SettingsError(
            f"script: {scheme} references are not read", remedy="use https, or a key in the store"
        )
    return _read_file(reference, settings)


def _fetch(url: str, settings: Settings) -> tuple[str, bytes]:
    try:
        data = fetch(
            url,
            max_bytes=MAX_SCRIPT_BYTES,
            timeout_seconds=FETCH_SECONDS,
            allow_private=settings.allow_private_urls,
        )
    except FetchError as error:
        raise ScriptError(f"script: {error}") from None
    return PurePosixPath(urlsplit(url).path).name or "script.txt", data


def _read_file(reference: str, settings: Settings) -> tuple[str, bytes]:
    if settings.script_folder is None:
        raise SettingsError(
            "script: paths are read only from the folder that NARRATION_SCRIPT_FOLDER names",
            remedy="set it on the worker, or use https or a key in the store",
        )
    folder = Path(settings.script_folder).resolve()
    try:
        path = (folder / reference).resolve()
    except (ValueError, RuntimeError):  # a NUL, a lone surrogate; links in a circle
        raise SettingsError("script: the path cannot be resolved") from None
    if not path.is_relative_to(folder):
        raise SettingsError("script: the path is outside the allowed folder")
    name = path.name[:_NAME_CHARACTERS]
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block for ever
            raise ScriptError(f"{name}: is not a file")
        if status.st_size > MAX_SCRIPT_BYTES:
            raise ScriptError(f"{name}: larger than {MAX_SCRIPT_BYTES} bytes")
        return path.name, path.read_bytes()
    except OSError as error:
        raise ScriptError(f"{name}: {error.strerror or error}") from None
