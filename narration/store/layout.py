"""The layout of a store: the key of every kind of object is made here and nowhere else."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from narration.errors import SettingsError
from narration.store.keys import is_key

CLIPS = "clips/"
FAILURES = "tries/"
HOLDS = "runs/"
INBOX = "inbox/"
JOBS = "jobs/"
NARRATIONS = "narrations/"
REJECTED = "rejected/"
SCRIPTS = "scripts/"
VOICES = "voices/"

MANIFEST_NAME = "manifest.json"
VOICE_NAME = "voice.json"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,10}){1,2}")
_DIGITS_IN_NAME = 16  # hex digits of its content's SHA-256 that a file's name carries


def is_slug(name: str) -> bool:
    """Whether `name` is 1 to 100 of a-z, 0-9 and inner hyphens, and a valid folder name on any system."""
    return bool(_SLUG.fullmatch(name)) and is_key(name)


def validate_id(narration_id: str) -> str:
    """Return the narration id unchanged; raise `SettingsError` for one that is not a slug."""
    if not is_slug(narration_id):
        raise SettingsError(
            f"{narration_id[:120]!r} is not a narration id",
            remedy="use 1 to 100 of a-z, 0-9 and -, with a letter or digit at both ends, as in chapter-3",
        )
    return narration_id


def audio_key(digest: str) -> str:
    """Key of a clip's audio."""
    return f"{CLIPS}{_in_subfolder(digest)}.flac"


def sidecar_key(digest: str) -> str:
    """Key of a clip's sidecar, written after its audio."""
    return f"{CLIPS}{_in_subfolder(digest)}.json"


def job_key(digest: str) -> str:
    """Key of the record of the job last submitted for a clip."""
    return f"{JOBS}{_in_subfolder(digest)}.json"


def digest_from_key(key: str) -> str:
    """The clip's digest in the key of its audio, its sidecar or its job."""
    return PurePosixPath(key).stem


def script_key(sha256: str, suffix: str) -> str:
    """Key of a narrated script."""
    return f"{SCRIPTS}{_checked_sha256(sha256)}{_checked_suffix(suffix)}"


def manifest_key(narration_id: str) -> str:
    """Key of a narration's manifest, which stays the same for every version of it."""
    return f"{NARRATIONS}{validate_id(narration_id)}/{MANIFEST_NAME}"


def published_key(narration_id: str, stem: str, sha256: str, suffix: str) -> str:
    """Key of a published file, named by its content."""
    if not is_slug(stem):
        raise ValueError(f"{stem!r} cannot be the stem of a published file")
    name = f"{stem}-{_checked_sha256(sha256)[:_DIGITS_IN_NAME]}{_checked_suffix(suffix)}"
    return f"{NARRATIONS}{validate_id(narration_id)}/{name}"


def hold_key(run_id: str) -> str:
    """Key of the list of clips that a run in progress needs."""
    return f"{HOLDS}{run_id}.json"


def failures_key(script_sha256: str) -> str:
    """Key of the number of times that a script of the inbox has failed."""
    return f"{FAILURES}{_checked_sha256(script_sha256)}.json"


def voice_key(name: str) -> str:
    """Key of a voice's description, written after its sample."""
    return f"{VOICES}{_checked_voice(name)}/{VOICE_NAME}"


def sample_key(name: str, sha256: str, suffix: str) -> str:
    """Key of a voice's sample, named by its content."""
    file_name = f"sample-{_checked_sha256(sha256)[:_DIGITS_IN_NAME]}{_checked_suffix(suffix)}"
    return f"{VOICES}{_checked_voice(name)}/{file_name}"


def rejected_key(inbox_key: str, sha256: str) -> str:
    """Key of a script moved out of the inbox; its SHA-256 keeps two of one name apart."""
    path = PurePosixPath(inbox_key.removeprefix(INBOX))
    suffix = path.suffix if _SUFFIX.fullmatch(path.suffix) else ""
    return f"{REJECTED}{path.parent / path.stem[:40]}-{_checked_sha256(sha256)[:_DIGITS_IN_NAME]}{suffix}"


def _in_subfolder(digest: str) -> str:
    """Spread digests over 256 subfolders, since file browsers and backups are slow in large folders."""
    return f"{_checked_sha256(digest)[:2]}/{digest}"


def _checked_sha256(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ValueError("a SHA-256 is 64 lowercase hex digits")
    return sha256


def _checked_suffix(suffix: str) -> str:
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{suffix!r} is not a file name's suffix")
    return suffix


def _checked_voice(name: str) -> str:
    if not is_slug(name):
        raise ValueError(f"{name!r} is not a voice's name")
    return name
