"""Commands for a person to paste into a shell: on the review page, in a run's summary."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from narration.settings import EngineName


def retake_command(narration_id: str, chunks: Iterable[int], *, store: str, engine: EngineName) -> str:
    """What takes these chunks of a published narration again. `store`: where it is, by `Store.location`."""
    speaker = ["--engine", engine] if engine == "draft" else []  # any other is what settings choose
    return shlex.join(["narrate", "retake", narration_id, *map(str, chunks), "--store", store, *speaker])


def review_command(narration_id: str, *, store: str) -> str:
    """What makes the review page of a published narration again, with new links."""
    return shlex.join(["narrate", "review", narration_id, "--store", store])
