"""Adding a voice to the store: read, convert and check its sample, then store sample and description."""

from __future__ import annotations

import hashlib
from pathlib import Path

from narration.errors import VoiceError
from narration.store import VoiceCollection
from narration.voices.sources import read_sample, read_transcript, without_secrets
from narration.voices.transport import MAKE_SMALLER, explain_oversize
from narration.voices.voice import SAMPLE_CONTENT_TYPES, Voice, check_name, parse_voice

# numpy and soundfile are imported by the function that decodes: planning needs neither.

DEFAULT_VOICE = "default"


def add_voice(
    voices: VoiceCollection,
    name: str,
    sample: str,
    transcript: str,
    *,
    replace: bool = False,
    allow_private: bool = False,
    ffmpeg: str | Path | None = None,
) -> Voice:
    """Store the voice `name` from `sample`, a file or an http(s) URL, and `transcript`, a file or the words.

    A sample that the worker decodes (WAV, FLAC, MP3, OGG, AIFF) is stored byte for byte, any other
    recording as FLAC, converted by `ffmpeg` (None: the default program). Adding the same voice again changes
    nothing; another one under its name needs `replace`. Raises `VoiceError` for a name, sample or
    transcript that cannot be used, and `StoreError`. `recheck_voice` returns what could be better.
    """
    check_name(name)
    words = read_transcript(transcript)
    recording, source = read_sample(sample, allow_private=allow_private)
    voice, data = _check_sample(name, recording, words, source, ffmpeg)
    if reason := explain_oversize(voices, voice, len(data)):
        raise VoiceError(f"voice {name}: {reason}", remedy=MAKE_SMALLER)
    stored = voices.read(name)
    if stored is not None and not replace:
        known = parse_voice(name, stored.data)
        if not _is_same(known, voice):
            raise VoiceError(
                f"there is a voice {name} already, with another sample or transcript",
                remedy="choose another name, or --replace it; clips that it has spoken stay in the store",
            )
        if known.sha256 != voice.sha256:
            return known  # another version of ffmpeg decoded the same file to other samples
        voice = known
    content_type = SAMPLE_CONTENT_TYPES[voice.suffix]
    voices.put_sample(name, voice.sha256, data, suffix=voice.suffix, content_type=content_type)
    if stored is None or replace:
        voices.replace(name, voice.to_json(), if_match=stored.etag if stored else None)
    return voice


def import_default_voice(
    voices: VoiceCollection,
    url: str,
    transcript: str | None,
    *,
    allow_private: bool = False,
    ffmpeg: str | Path | None = None,
) -> Voice:
    """Return the voice `default`, added from `VOICE_SAMPLE_URL` where the store does not have it yet.

    Raises `VoiceError` when the settings name another sample or transcript than the stored one: a run must
    not go on with the old voice unnoticed.
    """
    if not transcript:
        raise VoiceError(
            "VOICE_SAMPLE_URL is set without VOICE_SAMPLE_TRANSCRIPT",
            remedy="set it to the words of the sample",
        )
    stored = voices.read(DEFAULT_VOICE)
    if stored is None:
        return add_voice(voices, DEFAULT_VOICE, url, transcript, allow_private=allow_private, ffmpeg=ffmpeg)
    voice = parse_voice(DEFAULT_VOICE, stored.data)
    if voice.source != without_secrets(url) or voice.transcript != read_transcript(transcript):
        raise VoiceError(
            "the voice `default` in the store is not the one that VOICE_SAMPLE_URL and its transcript name",
            remedy="unset both to use the stored one, or `narrate voice add default --replace …`",
        )
    return voice


def _check_sample(
    name: str, recording: bytes, words: str, source: str, ffmpeg: str | Path | None
) -> tuple[Voice, bytes]:
    """The voice and the bytes to store; raises `VoiceError` for a recording with an error."""
    from narration.audio.containers import file_suffix  # noqa: PLC0415  as above
    from narration.voices.checks import examine_sample  # noqa: PLC0415  as above
    from narration.voices.conversion import make_decodable  # noqa: PLC0415  as above

    try:
        data = make_decodable(recording, ffmpeg)
    except VoiceError as error:
        raise VoiceError(f"voice {name}: {error.message}", remedy=error.remedy) from None
    seconds, problems = examine_sample(data, words)
    if problems and problems[0].severity == "error":
        raise VoiceError(f"voice {name}: {problems[0].message}", remedy=problems[0].remedy)
    voice = Voice(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        transcript=words,
        seconds=seconds,
        suffix=file_suffix(data),
        source=source,
        converted_from=None if data is recording else hashlib.sha256(recording).hexdigest(),
    )
    return voice, data


def _is_same(known: Voice, voice: Voice) -> bool:
    """Whether two voices have one transcript and one sample, or samples converted from one file."""
    converted_alike = known.converted_from is not None and known.converted_from == voice.converted_from
    return known.transcript == voice.transcript and (known.sha256 == voice.sha256 or converted_alike)
