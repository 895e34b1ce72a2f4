"""Reads a voice's sample from a file or a URL, and its transcript from a file or from the words given."""

from __future__ import annotations

import re
from pathlib import Path

from narration.contract import MAX_SAMPLE_BYTES
from narration.errors import VoiceError

FETCH_SECONDS = 60.0
MAX_TRANSCRIPT_CHARACTERS = 2_000  # the limit of the contract
MAX_TRANSCRIPT_BYTES = 16_000

_USER = re.compile(r"(?<=://)[^/]*@")
_TEXT_SUFFIXES = frozenset({".txt", ".md"})


def read_sample(sample: str, *, allow_private: bool) -> tuple[bytes, str]:
    """Return the bytes of the recording at a path or URL, and the file's name or the URL without secrets.

    Raises `VoiceError`, `retryable` where the server did not answer.
    """
    if sample.lower().startswith(("http://", "https://")):
        return _download(sample, allow_private=allow_private), without_secrets(sample)
    path = Path(sample)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SAMPLE_BYTES + 1)
    except (OSError, ValueError) as error:
        # A mistyped URL is taken for a path, and its query may hold a signature.
        shown = without_secrets(sample)[:200]
        raise VoiceError(f"sample {shown!r}: {_reason(error)}", remedy="give an audio file or URL") from None
    if len(data) > MAX_SAMPLE_BYTES:
        raise VoiceError(
            f"sample {path.name}: larger than {MAX_SAMPLE_BYTES // 1_000_000} MB",
            remedy="cut it to 5 to 20 s of calm speech",
        )
    return data, path.name


def read_transcript(transcript: str) -> str:
    """Return the words of a transcript on one line; `transcript` is a file's path or the words.

    Raises `VoiceError` for a file that cannot be read and for text without words or that is too long.
    """
    path = Path(transcript)
    is_path = path.suffix.lower() in _TEXT_SUFFIXES or _is_file(path)
    words = " ".join((_read_text(path) if is_path else transcript).split())
    if not any(character.isalnum() for character in words):
        raise VoiceError("the transcript holds no words", remedy="give what the sample says, word for word")
    if len(words) > MAX_TRANSCRIPT_CHARACTERS:
        raise VoiceError(
            f"the transcript has over {MAX_TRANSCRIPT_CHARACTERS} characters",
            remedy="give what the sample says, word for word, and nothing else",
        )
    return words


def without_secrets(url: str) -> str:
    """Return a URL without user, query and fragment, which may hold secrets or change with each signature."""
    return _USER.sub("", url.partition("#")[0].partition("?")[0])


def _read_text(path: Path) -> str:
    shown = path.name[:80]
    try:
        with path.open("rb") as file:
            return file.read(MAX_TRANSCRIPT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise VoiceError(f"transcript {shown!r}: is not UTF-8 text", remedy="save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise VoiceError(
            f"transcript {shown!r}: {_reason(error)}", remedy="give a file, or the words"
        ) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "no file has such a name"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the text itself, too long for a file's name
        return False


def _download(url: str, *, allow_private: bool) -> bytes:
    # httpx takes 0.3 s to import, and planning downloads nothing.
    from narration.fetch import FetchError, FetchUnreachable, fetch  # noqa: PLC0415  as above

    try:
        return fetch(
            url, max_bytes=MAX_SAMPLE_BYTES, timeout_seconds=FETCH_SECONDS, allow_private=allow_private
        )
    except FetchError as error:
        raise VoiceError(
            f"sample: {error}",
            remedy="give a public address, or a file",
            retryable=isinstance(error, FetchUnreachable),
        ) from None
