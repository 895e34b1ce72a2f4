"""What a voice is, once it is in the store."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from narration.contract import Sha256
from narration.store import sample_key
from narration.voices.sources import MAX_TRANSCRIPT_CHARACTERS


class Voice(BaseModel):
    """A voice in the store. `sha256` of its sample's bytes, as they were given, is its identity."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = 1
    name: str
    sha256: Sha256
    transcript: Annotated[str, Field(min_length=1, max_length=MAX_TRANSCRIPT_CHARACTERS)]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    suffix: str
    source: str  # where the sample came from: a file's name, or a URL without its query

    @property
    def key(self) -> str:
        """Key of the sample in the store."""
        return sample_key(self.name, self.sha256, self.suffix)
