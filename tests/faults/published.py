"""What a narration has published in a store, compared without what differs from run to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_DIFFERS_BY_RUN = {"created", "cost"}
_DIFFERS_BY_ATTEMPT = {"attempt", "refused", "cached", "execution_seconds", "seed"}
_REVIEW_PAGE = "html"  # holds signed links


@dataclass(frozen=True, eq=False)
class Published:
    """A narration's manifest, and the bytes of its files by kind without the review page."""

    files: dict[str, bytes]
    manifest: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Published)
            and self.files == other.files
            and self.comparable_manifest() == other.comparable_manifest()
        )

    def __repr__(self) -> str:
        return json.dumps(self.comparable_manifest(), indent=1)

    __hash__ = None  # type: ignore[assignment]  # holds dicts

    def comparable_manifest(self) -> dict[str, Any]:
        """The manifest without times, cost, attempts and review page."""
        kept = {name: value for name, value in self.manifest.items() if name not in _DIFFERS_BY_RUN}
        kept["files"] = [entry for entry in kept["files"] if entry["kind"] != _REVIEW_PAGE]
        kept["chunks"] = [
            {name: value for name, value in chunk.items() if name not in _DIFFERS_BY_ATTEMPT}
            for chunk in kept["chunks"]
        ]
        return kept


def read_published(read: Callable[[str], bytes], narration_id: str) -> Published:
    """What is published under `narration_id`; `read` returns the bytes of a key of the store."""
    manifest = json.loads(read(f"narrations/{narration_id}/manifest.json"))
    entries = [entry for entry in manifest["files"] if entry["kind"] != _REVIEW_PAGE]
    return Published({entry["kind"]: read(entry["key"]) for entry in entries}, manifest)
