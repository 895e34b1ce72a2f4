"""Where a voice comes from: its sample from a file or a URL, its transcript from a file or as words."""

from __future__ import annotations

import re
from pathlib import Path

from narration.contract import MAX_SAMPLE_BYTES
from narration.errors import VoiceError

FETCH_SECONDS = 60.0
MAX_TRANSCRIPT_CHARACTERS = 2_000  # of the contract
MAX_TRANSCRIPT_BYTES = 16_000

_USER = re.compile(r"(?<=://)[^/]*@")
_TEXT_FILES = frozenset({".txt", ".md"})


def read_sample(sample: str, *, allow_private: bool) -> tuple[bytes, str]:
    """Return the bytes of the recording at a path or URL, and where they came from in words fit to keep.

    Raises `VoiceError`, `retryable` where the address may answer another time.
    """
    if sample.lower().startswith(("http://", "https://")):
        return _download(sample, allow_private=allow_private), without_secrets(sample)
    path = Path(sample)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SAMPLE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
        named = without_secrets(sample)[:200]  # it may have been meant for a URL
        raise VoiceError(f"sample {named!r}: {reason}", remedy="give an audio file or URL") from None
    if len(data) > MAX_SAMPLE_BYTES:
        raise VoiceError(
            f"sample {path.name}: larger than {MAX_SAMPLE_BYTES // 1_000_000} MB",
            remedy="cut it to 5 to 20 s of calm speech",
        )
    return data, path.name


def read_transcript(transcript: str) -> str:
    """Return the words of a transcript, given as a file or as themselves, on one line; raise `VoiceError`."""
    path = Path(transcript)
    words = _read_text(path) if path.suffix.lower() in _TEXT_FILES or _is_file(path) else transcript
    words = " ".join(words.split())
    if not any(character.isalnum() for character in words):
        raise VoiceError("the transcript holds no words", remedy="give what the sample says, word for word")
    if len(words) > MAX_TRANSCRIPT_CHARACTERS:
        raise VoiceError(
            f"the transcript has over {MAX_TRANSCRIPT_CHARACTERS} characters",
            remedy="give what the sample says, word for word, and nothing else",
        )
    return words


def without_secrets(url: str) -> str:
    """Return a URL without what may be secret or changes with each signing."""
    return _USER.sub("", url.partition("#")[0].partition("?")[0])


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TRANSCRIPT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise VoiceError(
            f"transcript {path.name[:80]!r}: is not UTF-8 text", remedy="save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
        raise VoiceError(
            f"transcript {path.name[:80]!r}: {reason}", remedy="give a file, or the words"
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # words, too long for a file's name
        return False


def _download(url: str, *, allow_private: bool) -> bytes:
    # httpx takes 0.3 s to import, which planning need not wait for.
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
