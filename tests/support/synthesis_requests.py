"""A complete synthesis request for tests, and the same with some fields changed."""

from __future__ import annotations

from typing import Any

from narration.contract import SynthesisRequest, parse_request

SHA = "a" * 64
FULL: dict[str, Any] = {
    "prompt": "One sentence.",
    "audio_base64": "AAAA",
    "audio_sha256": SHA,
    "audio_transcript": "What the sample says.",
    "model": "higgs/1",
}


def request(**changes: Any) -> SynthesisRequest:
    """`FULL` with `changes`, read as the worker reads it."""
    return parse_request(FULL | changes)
