"""Voices: a sample and what it says, under a name; imported into the store once, then found by name."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from narration.errors import Damaged, VoiceError
from narration.settings import Settings
from narration.store import Store, is_slug
from narration.voices.sources import read_sample, read_transcript, without_secrets
from narration.voices.transport import MAX_INLINE_BYTES, SMALLER, is_linked, too_large
from narration.voices.voice import Voice

if TYPE_CHECKING:
    from narration.voices.checks import SampleProblem

# numpy and soundfile are imported where a voice is added or checked: planning does neither.

DEFAULT_VOICE = "default"

_CONTENT_TYPES = {
    ".aiff": "audio/aiff",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".wav": "audio/wav",
}


def add_voice(
    store: Store,
    name: str,
    sample: str,
    transcript: str,
    *,
    replace: bool = False,
    allow_private: bool = False,
) -> Voice:
    """Import the voice `name` from `sample`, a file or an http(s) URL, and `transcript`, a file or the words.

    The same voice again changes nothing; another under its name needs `replace`. Raises
    `VoiceError` for a name, sample or transcript that cannot be used, and `StoreError`.
    `check_voice` tells what could be better.
    """
    from narration.voices.checks import examine_sample  # noqa: PLC0415  as above

    _check_name(name)
    words = read_transcript(transcript)
    data, source = read_sample(sample, allow_private=allow_private)
    seconds, findings = examine_sample(data, words)
    for finding in findings:
        if finding.severity == "error":
            raise VoiceError(f"voice {name}: {finding.message}", remedy=finding.remedy)
    sha256 = hashlib.sha256(data).hexdigest()
    suffix = _suffix(data)
    voice = Voice(name=name, sha256=sha256, transcript=words, seconds=seconds, suffix=suffix, source=source)
    if not _can_travel(store, voice, len(data)):
        raise VoiceError(f"voice {name}: {too_large(len(data))}", remedy=SMALLER)
    stored = store.voices.read(name)
    if stored is not None and not replace:
        known = _parse(name, stored[0])
        if (known.sha256, known.transcript) != (sha256, words):
            raise VoiceError(
                f"there is a voice {name} already, with another sample or transcript",
                remedy="choose another name, or --replace it; what it has spoken stays as it is",
            )
        voice = known
    store.voices.put_sample(name, sha256, data, suffix=suffix, content_type=_CONTENT_TYPES[suffix])
    if stored is None or replace:
        content = json.dumps(voice.model_dump(), ensure_ascii=False, indent=2).encode()
        store.voices.replace(name, content, if_match=stored[1] if stored else None)
    return voice


def find_voice(store: Store, name: str) -> Voice:
    """Return the voice `name`; raise `VoiceError` naming those there are."""
    _check_name(name)
    stored = store.voices.read(name)
    if stored is None:
        names = ", ".join(store.voices.names()) or "none yet"
        raise VoiceError(
            f"{store.location} has no voice {name}",
            remedy=f"add it with `narrate voice add {name} --sample … --transcript …`; there are: {names}",
        )
    return _parse(name, stored[0])


def list_voices(store: Store) -> list[Voice]:
    """Return all voices, sorted by name."""
    return [find_voice(store, name) for name in store.voices.names()]


def recheck_voice(store: Store, name: str) -> list[SampleProblem]:
    """Return what is wrong with a stored voice, worst first; raise `VoiceError` if there is none."""
    from narration.voices.checks import SampleProblem, examine_sample  # noqa: PLC0415  as above

    voice = find_voice(store, name)
    try:
        data = store.voices.read_sample(voice.key)
    except Damaged as error:
        return [SampleProblem("error", error.message, "add the voice again with --replace")]
    if hashlib.sha256(data).hexdigest() != voice.sha256:
        message = "the sample in the store is not the one that was added"
        return [SampleProblem("error", message, "add the voice again with --replace")]
    findings = examine_sample(data, voice.transcript)[1]
    if not _can_travel(store, voice, len(data)):
        findings.insert(0, SampleProblem("error", too_large(len(data)), f"{SMALLER} with --replace"))
    return findings


def import_default_voice(
    store: Store, url: str, transcript: str | None, *, allow_private: bool = False
) -> Voice:
    """Return the voice `default`, imported from `VOICE_SAMPLE_URL` the first time.

    Raises `VoiceError` when the settings name another sample or transcript than the one
    imported: to go on with the old voice unasked would be worse than to stop.
    """
    if not transcript:
        raise VoiceError(
            "VOICE_SAMPLE_URL is set without VOICE_SAMPLE_TRANSCRIPT",
            remedy="set it to the words of the sample",
        )
    stored = store.voices.read(DEFAULT_VOICE)
    if stored is None:
        return add_voice(store, DEFAULT_VOICE, url, transcript, allow_private=allow_private)
    voice = _parse(DEFAULT_VOICE, stored[0])
    if voice.source != without_secrets(url) or voice.transcript != read_transcript(transcript):
        raise VoiceError(
            "the voice `default` in the store is not the one that VOICE_SAMPLE_URL and its transcript name",
            remedy="unset both to use the stored one, or `narrate voice add default --replace …`",
        )
    return voice


def choose_voice(store: Store, settings: Settings, *, importing: bool = True) -> Voice | None:
    """Return the voice that `settings` ask for; None where the draft engine speaks with its own.

    The voice `default` is imported from `VOICE_SAMPLE_URL` on first use; without `importing`
    nothing is downloaded and a voice not imported yet is a `VoiceError`.
    """
    if settings.voice != DEFAULT_VOICE:
        voice = find_voice(store, settings.voice)
        return None if settings.engine_in_use() == "draft" else voice
    if settings.engine_in_use() == "draft":
        return None
    if settings.voice_sample_url and (importing or DEFAULT_VOICE in store.voices.names()):
        return import_default_voice(
            store,
            settings.voice_sample_url,
            settings.voice_sample_transcript,
            allow_private=settings.allow_private_urls,
        )
    return find_voice(store, DEFAULT_VOICE)


def _can_travel(store: Store, voice: Voice, size: int) -> bool:
    """Whether a sample of `size` bytes can reach the worker: with each request, or by a link of the store."""
    return size <= MAX_INLINE_BYTES or is_linked(store, voice.key)


def _check_name(name: str) -> None:
    if not is_slug(name):
        raise VoiceError(
            f"{name[:120]!r} is not a voice's name",
            remedy="use 1 to 100 of a-z, 0-9 and -, with a letter or digit at both ends",
        )


def _parse(name: str, data: bytes) -> Voice:
    try:
        voice = Voice.model_validate_json(data)
    except ValidationError:
        voice = None
    if voice is None or voice.name != name or voice.suffix not in _CONTENT_TYPES:
        raise VoiceError(
            f"what the store knows of the voice {name} cannot be read", remedy="add it with --replace"
        )
    return voice


def _suffix(data: bytes) -> str:
    """The suffix for a container that `audio.decode` accepts, by its first bytes."""
    starts = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff"}
    return starts.get(data[:4], ".mp3")
