"""The voices in the store: find one by name, list them, choose the one that a run uses, check one again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from narration.errors import Damaged, VoiceError
from narration.model_ids import has_own_voice
from narration.settings import Settings
from narration.store import VoiceCollection
from narration.voices.adding import DEFAULT_VOICE, import_default_voice
from narration.voices.transport import MAKE_SMALLER, explain_oversize
from narration.voices.voice import Voice, check_name, parse_voice

if TYPE_CHECKING:
    from narration.voices.checks import SampleProblem


def find_voice(voices: VoiceCollection, name: str) -> Voice:
    """Return the voice `name`; raise `VoiceError` with the names of the stored ones if there is none."""
    check_name(name)
    stored = voices.read(name)
    if stored is None:
        names = ", ".join(voices.names()) or "none yet"
        raise VoiceError(
            f"{voices.location} has no voice {name}",
            remedy=f"add it with `narrate voice add {name} --sample … --transcript …`; there are: {names}",
        )
    return parse_voice(name, stored.data)


def list_voices(voices: VoiceCollection) -> list[Voice]:
    """Return all voices, sorted by name."""
    return [find_voice(voices, name) for name in voices.names()]


def choose_voice(voices: VoiceCollection, settings: Settings, *, importing: bool = True) -> Voice | None:
    """Return the voice that `settings` name; None where the engine or its model has a voice of its own.

    That is the draft engine, and a speech server's model by its model id, which is a `VoiceError` beside any
    other voice than `default`. The voice `default` is added from `VOICE_SAMPLE_URL` on first use; without
    `importing` nothing is downloaded, and a voice that is not in the store yet is a `VoiceError`.
    """
    if settings.engine_in_use() != "draft" and settings.model and has_own_voice(settings.model):
        if settings.voice != DEFAULT_VOICE:
            raise VoiceError(
                f"the model {settings.model} has a voice of its own, not {settings.voice}",
                remedy="leave NARRATION_VOICE and --voice out, or choose a model that clones voices",
            )
        return None
    if settings.voice != DEFAULT_VOICE:
        voice = find_voice(voices, settings.voice)
        return None if settings.engine_in_use() == "draft" else voice
    if settings.engine_in_use() == "draft":
        return None
    if settings.voice_sample_url and (importing or DEFAULT_VOICE in voices.names()):
        return import_default_voice(
            voices,
            settings.voice_sample_url,
            settings.voice_sample_transcript,
            allow_private=settings.allow_private_urls,
            ffmpeg=settings.ffmpeg,
        )
    return find_voice(voices, DEFAULT_VOICE)


def recheck_voice(voices: VoiceCollection, name: str) -> list[SampleProblem]:
    """Return the problems of a stored voice, errors first; raise `VoiceError` if there is no such voice."""
    # numpy and soundfile are imported only here: planning needs neither.
    from narration.voices.checks import SampleProblem, examine_sample  # noqa: PLC0415  as above

    voice = find_voice(voices, name)
    try:
        data = voices.read_sample(voice.key)
    except Damaged as error:
        return [SampleProblem("error", error.message, "add the voice again with --replace")]
    if hashlib.sha256(data).hexdigest() != voice.sha256:
        message = "the sample in the store is not the one that was added"
        return [SampleProblem("error", message, "add the voice again with --replace")]
    problems = examine_sample(data, voice.transcript)[1]
    if reason := explain_oversize(voices, voice, len(data)):
        problems.insert(0, SampleProblem("error", reason, f"{MAKE_SMALLER} with --replace"))
    return problems
