"""The identity of a clip: its digest, and the seeds of the attempts to make it."""

from __future__ import annotations

import hashlib
import json

from narration.contract import SynthesisRequest

CONTRACT_VERSION = 1
"""Part of every digest. Raised only if the same request is to ask for another clip than before."""

_NOT_IN_DIGEST = {
    "audio_url",
    "audio_base64",
    "previous_text",
    "previous_audio_base64",
    "max_new_tokens",
    "audio_format",
}
"""Fields that cannot change the waveform, or that another field or argument stands for."""


def digest(request: SynthesisRequest, *, take: int = 1, previous: str | None = None) -> str:
    """The digest of the clip that `request` asks for: SHA-256 of canonical JSON, 64 hex digits.

    Everything that can change the waveform is hashed, with defaults resolved. The frame cap, the audio
    format and the sample's URL are not: the sample's SHA-256 is. `take` counts from 1. `previous` is
    the digest of the clip before, if its end is given as context; it stands for the context's text
    and audio, so that a plan can compute every digest before any clip is made.

    Raises `ValueError` for a request that does not determine its clip: no model id, a sample without
    its SHA-256 or transcript, context without `previous`, `take` below 1.
    """
    if take < 1:
        raise ValueError("takes are numbered from 1")
    if request.model is None:
        raise ValueError("a clip's identity needs the model id")
    if request.cloned and (request.audio_sha256 is None or request.audio_transcript is None):
        raise ValueError("a clip's identity needs the sample's SHA-256 and transcript")
    if request.previous_text is not None and previous is None:
        raise ValueError("a clip's identity needs the identity of its context")
    fields = request.model_dump(mode="json", exclude=_NOT_IN_DIGEST)
    fields["previous"] = previous
    fields["take"] = take
    fields["contract_version"] = CONTRACT_VERSION
    # Equal numbers give one digest: 1 and 1.0 are the same temperature.
    for name in ("temperature", "top_p"):
        fields[name] = float(fields[name])
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def attempt_seed(clip_digest: str, attempt: int) -> int:
    """The seed of an attempt (from 1) at the clip with `clip_digest`: 32 bits, which every JSON reader keeps.

    Raises `ValueError` for an `attempt` below 1.
    """
    if attempt < 1:
        raise ValueError("attempts are numbered from 1")
    return int.from_bytes(hashlib.sha256(f"{clip_digest}/{attempt}".encode()).digest()[:4], "big")
