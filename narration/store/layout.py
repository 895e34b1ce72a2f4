"""Where everything lies in a store: each kind of key is spelled here and nowhere else."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from narration.errors import SettingsError
from narration.store.objects import is_key

CLIPS = "clips/"
INBOX = "inbox/"
JOBS = "jobs/"
NARRATIONS = "narrations/"
REJECTED = "rejected/"
SCRIPTS = "scripts/"
VOICES = "voices/"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,10}){1,2}")
_NAMED_BY = 16  # hex digits of a content's SHA-256 that tell published files apart


def is_slug(name: str) -> bool:
    """Whether `name` is 1 to 100 of a-z, 0-9 and inner hyphens, and a folder on any system."""
    return bool(_SLUG.fullmatch(name)) and is_key(name)


def validate_id(narration_id: str) -> str:
    """Return the narration's id as given; raise `SettingsError` for one that is not a slug."""
    if not is_slug(narration_id):
        raise SettingsError(
            f"{narration_id[:120]!r} is not a narration id",
            remedy="use 1 to 100 of a-z, 0-9 and -, with a letter or digit at both ends, as in chapter-3",
        )
    return narration_id


def audio_key(digest: str) -> str:
    """Key of a clip's audio."""
    return f"{CLIPS}{_fan_out(digest)}.flac"


def sidecar_key(digest: str) -> str:
    """Key of a clip's sidecar, written after its audio."""
    return f"{CLIPS}{_fan_out(digest)}.json"


def digest_of(key: str) -> str:
    """The digest that a clip's key is made of."""
    return PurePosixPath(key).stem


def job_key(digest: str) -> str:
    """Key of the record of the job last submitted for a clip."""
    return f"{JOBS}{_fan_out(digest)}.json"


def script_key(sha256: str, suffix: str) -> str:
    """Key of a script as narrated."""
    return f"{SCRIPTS}{_whole_sha256(sha256)}{_suffix(suffix)}"


def manifest_key(narration_id: str) -> str:
    """Key of a narration's manifest: its one address that never changes."""
    return f"{NARRATIONS}{validate_id(narration_id)}/manifest.json"


def published_key(narration_id: str, stem: str, sha256: str, suffix: str) -> str:
    """Key of a published file, named by its content."""
    if not is_slug(stem):
        raise ValueError(f"{stem!r} is not the stem of a published file")
    name = f"{stem}-{_whole_sha256(sha256)[:_NAMED_BY]}{_suffix(suffix)}"
    return f"{NARRATIONS}{validate_id(narration_id)}/{name}"


def held_key(run: str) -> str:
    """Key of the note of what a run in progress needs."""
    return f"runs/{run}.json"


def tries_key(script_sha256: str) -> str:
    """Key of the count of failed tries at a script of the inbox."""
    return f"tries/{_whole_sha256(script_sha256)}.json"


def voice_key(name: str) -> str:
    """Key of what is known of a voice, written after its sample."""
    return f"{VOICES}{_voice(name)}/voice.json"


def sample_key(name: str, sha256: str, suffix: str) -> str:
    """Key of a voice's sample, named by its content."""
    return f"{VOICES}{_voice(name)}/sample-{_whole_sha256(sha256)[:_NAMED_BY]}{_suffix(suffix)}"


def rejected_key(inbox_key: str, sha256: str) -> str:
    """Key of a script moved out of the inbox; its content tells it from others of its name."""
    path = PurePosixPath(inbox_key.removeprefix(INBOX))
    suffix = path.suffix if _SUFFIX.fullmatch(path.suffix) else ""
    return f"{REJECTED}{path.parent / path.stem[:40]}-{_whole_sha256(sha256)[:_NAMED_BY]}{suffix}"


def _fan_out(digest: str) -> str:
    """Spread clips over 256 folders, which file browsers and backups are grateful for."""
    return f"{_whole_sha256(digest)[:2]}/{digest}"


def _whole_sha256(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ValueError("a SHA-256 is 64 lowercase hex digits")
    return sha256


def _suffix(suffix: str) -> str:
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{suffix!r} is not a file name's suffix")
    return suffix


def _voice(name: str) -> str:
    if not is_slug(name):
        raise ValueError(f"{name!r} is not a voice's name")
    return name
