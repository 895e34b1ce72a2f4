"""A stored voice: its name, its sample's identity and key, its transcript."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from narration.contract import Sha256
from narration.errors import VoiceError
from narration.store import is_slug, sample_key
from narration.voices.sources import MAX_TRANSCRIPT_CHARACTERS

SAMPLE_CONTENT_TYPES = {
    ".aiff": "audio/aiff",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".w64": "audio/x-w64",
    ".wav": "audio/wav",
}
"""Content type of a stored sample by its suffix."""


class Voice(BaseModel):
    """A voice in the store. Its identity is `sha256`, of the bytes of the stored sample."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = 1
    name: str
    sha256: Sha256
    transcript: Annotated[str, Field(min_length=1, max_length=MAX_TRANSCRIPT_CHARACTERS)]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    suffix: str
    source: str  # the sample's file name, or its URL without query
    converted_from: Sha256 | None = None  # SHA-256 of the file given, where it was converted to FLAC

    @property
    def key(self) -> str:
        """Key of the sample in the store."""
        return sample_key(self.name, self.sha256, self.suffix)

    def to_json(self) -> bytes:
        """The voice as `voice.json` holds it."""
        return self.model_dump_json(indent=2, exclude_none=True).encode()


def parse_voice(name: str, data: bytes) -> Voice:
    """Parse the `voice.json` of the voice `name`; raise `VoiceError` for one that is not valid."""
    try:
        voice = Voice.model_validate_json(data)
    except ValidationError:
        voice = None
    if voice is None or voice.name != name or voice.suffix not in SAMPLE_CONTENT_TYPES:
        raise VoiceError(f"the stored voice {name} cannot be read", remedy="add it again with --replace")
    return voice


def check_name(name: str) -> None:
    """Raise `VoiceError` for a name that a voice cannot have."""
    if not is_slug(name):
        raise VoiceError(
            f"{name[:120]!r} is not a voice's name",
            remedy="use 1 to 100 of a-z, 0-9 and -, with a letter or digit at both ends",
        )
