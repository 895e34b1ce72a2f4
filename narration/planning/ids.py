"""The ids that narrations are published under."""

from __future__ import annotations

import re

from narration.errors import SettingsError
from narration.settings import Engine

DRAFT_SUFFIX = "-draft"


def narration_slug(name: str) -> str:
    """An id made of a file's name: lowercase letters, digits and hyphens."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80].strip("-")
    return slug or "narration"


def published_id(narration_id: str, engine: Engine) -> str:
    """The id a narration is published under: a draft's always ends with `-draft`, no other's ever does."""
    if engine == "draft":
        return narration_id if narration_id.endswith(DRAFT_SUFFIX) else narration_id + DRAFT_SUFFIX
    if narration_id.endswith(DRAFT_SUFFIX):
        raise SettingsError(
            f"the id {narration_id!r} is a draft's", remedy=f"leave {DRAFT_SUFFIX!r} out, or say engine=draft"
        )
    return narration_id
