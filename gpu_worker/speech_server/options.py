"""The settings of a speech server, checked, and the model id that they make."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.settings import AudioFormat, SpeechApi, WorkerSettings
from narration.model_ids import speech_model_id

ENGINE_REVISION = 1
"""Raised whenever the engine would send another body for a request, or decode a response otherwise."""


@dataclass(frozen=True, slots=True)
class SpeechServerOptions:
    """A speech server: `url` ends in /audio/speech, `voice` is one of its own or None to clone samples.

    `tokens_per_second` is the model's; None leaves the length of a clip to the server's own limit.
    """

    url: str
    model: str
    revision: str
    voice: str | None
    api: SpeechApi
    audio_format: AudioFormat
    timeout_seconds: float
    tokens_per_second: float | None
    key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: WorkerSettings) -> SpeechServerOptions:
        """The options in `settings`; raises `ModelError` naming a variable that is not set."""
        if settings.speech_url is None:
            raise _not_set("URL", "the address of the server's API, such as http://127.0.0.1:8000/v1")
        if settings.speech_model is None:
            raise _not_set("MODEL", "the model's name at the server")
        if settings.speech_revision is None:
            raise _not_set(
                "REVISION",
                "what the server runs, such as its version and the commit of its weights: it is part of"
                " every clip's identity, and no server is asked for it",
            )
        if settings.speech_api == "openai" and settings.speech_voice is None:
            raise _not_set(
                "VOICE", "one of the server's voices; only with WORKER_SPEECH_API are samples cloned instead"
            )
        key = settings.speech_key
        return cls(
            url=f"{settings.speech_url.rstrip('/')}/audio/speech",
            model=settings.speech_model,
            revision=settings.speech_revision,
            voice=settings.speech_voice,
            api=settings.speech_api,
            audio_format=settings.speech_format,
            timeout_seconds=settings.speech_timeout,
            tokens_per_second=settings.speech_tokens_per_second,
            key=key.get_secret_value() if key is not None else None,
        )

    @property
    def model_id(self) -> str:
        """The model id that requests carry: all that decides what the same request sounds like."""
        return speech_model_id(
            self.model,
            revision=self.revision,
            server=f"{self.api}-{self.audio_format}",
            voice=self.voice,
            engine_revision=ENGINE_REVISION,
        )


def _not_set(name: str, meaning: str) -> ModelError:
    return ModelError(f"WORKER_SPEECH_{name} is not set: {meaning}")
