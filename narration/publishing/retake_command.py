"""Shell commands shown on the review page and in the summary of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from narration.settings import EngineName


def retake_command(narration_id: str, chunks: Iterable[int], *, store: str, engine: EngineName) -> str:
    """The command that retakes these chunks of a published narration. `store` is `Store.location`."""
    options = ["--engine", engine] if engine == "draft" else []  # the default of the settings otherwise
    return shlex.join(["narrate", "retake", narration_id, *map(str, chunks), "--store", store, *options])


def review_command(narration_id: str, *, store: str) -> str:
    """The command that renews the review page of a published narration, with new links."""
    return shlex.join(["narrate", "review", narration_id, "--store", store])
