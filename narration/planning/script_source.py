"""Where a script may come from: the store, https, one allowed folder, or the text itself."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import ValidationError

from narration.errors import InputError, ScriptError, SettingsError, StoreRefused
from narration.fetch import FetchError, fetch
from narration.manifest import Manifest, load_manifest
from narration.planning import published_id
from narration.script import MAX_SCRIPT_BYTES, Script, parse_script, script_suffix
from narration.settings import CLIP_SETTINGS, RENDER_SETTINGS, Settings
from narration.store import Store

MAX_TEXT_BYTES = 100_000  # of a script typed into the UI's form
FETCH_SECONDS = 30.0

_NAME_CHARACTERS = 200  # of a file's name, as messages quote it
_FIXED = (*CLIP_SETTINGS, *RENDER_SETTINGS)


def read_text(store: Store, text: str) -> tuple[Script, str]:
    """A script typed into a form (Markdown, at most 100 kB), and the key it is kept under."""
    data = text.encode(errors="surrogatepass")
    if len(data) > MAX_TEXT_BYTES:
        raise ScriptError(
            f"text: {len(data)} bytes are more than the {MAX_TEXT_BYTES} a form takes",
            remedy="put the script into the store and give its reference",
        )
    script = parse_script(data, name="text", markdown=True)
    return script, store.scripts.put(data, ".md")


def read_reference(store: Store, reference: str | None, settings: Settings) -> tuple[Script, str]:
    """The script at `reference`, and the key it is kept under.

    A reference is a key under `scripts/` or `inbox/`, an https URL, or a path in the allowed
    folder. Raises `SettingsError` for a reference of another kind, `ScriptError` for what cannot be read.
    """
    if not reference:
        raise SettingsError("no script was given", remedy="give `script` a reference, or `text` the words")
    name, data = _read(store, reference, settings)
    script = parse_script(data, name=name)
    return script, store.scripts.put(data, script_suffix(name))


def _read(store: Store, reference: str, settings: Settings) -> tuple[str, bytes]:
    if reference.startswith(("scripts/", "inbox/")):
        return PurePosixPath(reference).name, store.scripts.read(reference)
    try:
        scheme = urlsplit(reference).scheme.lower()
    except ValueError:
        raise SettingsError("script: the reference is no path, and not a URL either") from None
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
        raise SettingsError("script: the path leads nowhere") from None
    if not path.is_relative_to(folder):
        raise SettingsError("script: the path leads out of the allowed folder")
    name = path.name[:_NAME_CHARACTERS]
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            raise ScriptError(f"{name}: is not a file")
        if status.st_size > MAX_SCRIPT_BYTES:
            raise ScriptError(f"{name}: larger than {MAX_SCRIPT_BYTES} bytes")
        return path.name, path.read_bytes()
    except OSError as error:
        raise ScriptError(f"{name}: {error.strerror or error}") from None


def read_narrated(store: Store, settings: Settings, narration_id: str) -> tuple[Script, str, Settings]:
    """The script of a published narration, its key, and `settings` as that narration was made with.

    Raises `InputError` for a narration that is not published.
    """
    published = published_id(narration_id, settings.engine_in_use())
    found = store.manifests.read(published)
    if found is None:
        raise InputError(
            f"{store.location} has no narration {published}", remedy="narrate it first, or name its store"
        )
    manifest = load_manifest(found[0], name=f"narrations/{published}/manifest.json")
    script = parse_script(store.scripts.read(manifest.script_key), name=manifest.script_key)
    made_with = settings_of(manifest, settings)
    return script, manifest.script_key, made_with


def settings_of(manifest: Manifest, settings: Settings) -> Settings:
    """`settings` with what the narration fixed: its voice, its chunks, its pauses and loudness.

    And with nothing else: who may write to the store decides neither where keys are sent nor what is
    run. Raises `StoreRefused` for a value that no setting can have.
    """
    fixed = {name: manifest.settings[name] for name in _FIXED if name in manifest.settings}
    if manifest.voice is not None:
        fixed["voice"] = manifest.voice.name
    try:
        checked = Settings(**fixed)
    except ValidationError as error:
        name = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"][0]
        raise StoreRefused(
            f"the manifest of {manifest.id} holds settings that cannot be: {name}",
            remedy="restore it from a backup, or narrate again",
        ) from None
    return settings.model_copy(update={name: getattr(checked, name) for name in fixed})
