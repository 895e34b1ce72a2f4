"""What a run did, as one object for people, programs and exit codes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RunReport(BaseModel):
    """The outcome of `run` and `retake`. Counts are of chunks; `duration` in seconds."""

    model_config = ConfigDict(frozen=True)

    narration_id: str
    manifest: str | None
    files: dict[str, str]
    duration: float | None
    chunks: int
    synthesized: int
    cached: int
    failed: int
    failures: dict[int, str] = {}
    engine: str
    cost: float = 0.0  # USD paid in this run, at the price set
    flagged: tuple[int, ...] = ()  # chunks that no attempt spoke without a doubt
    dropped: tuple[str, ...] = ()  # choices of an earlier script that no chunk took over
    notes: tuple[str, ...] = ()
