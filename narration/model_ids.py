"""Model ids of models behind a speech server: made by the worker, read by the pipeline.

`openai/<model>@<revision>/<server>/<voice-NAME or cloned>/engine-<number>`: with all of these equal, the same
request sounds the same. Only the standard library, since the worker imports this room too.
"""

from __future__ import annotations

_PREFIX = "openai/"
_OWN_VOICE = "voice-"
_CLONED = "cloned"


def speech_model_id(
    model: str, *, revision: str, server: str, voice: str | None, engine_revision: int
) -> str:
    """The id of `model` at a speech server.

    `revision` is that of the server and its weights, `server` its kind and the audio format asked of it,
    `voice` one of its own or None where voice samples are cloned. Only `model` may contain a slash.
    """
    speaker = _CLONED if voice is None else f"{_OWN_VOICE}{voice}"
    return f"{_PREFIX}{model}@{revision}/{server}/{speaker}/engine-{engine_revision}"


def has_own_voice(model_id: str) -> bool:
    """Whether the model id is of a speech server's own voice, so that no voice sample is to be sent."""
    parts = model_id.rsplit("/", 2)
    return model_id.startswith(_PREFIX) and len(parts) == 3 and parts[1].startswith(_OWN_VOICE)
