"""The ids that narrations are published under."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from narration.errors import SettingsError
from narration.settings import EngineName

DRAFT_SUFFIX = "-draft"

_MAX_SLUG = 80  # characters, of the 100 an id may have
_TOLD_APART = 6  # hex digits


def narration_slug(name: str) -> str:
    """An id made of a file's name: lowercase letters without accents, digits and hyphens.

    Where letters or digits had to be left out, some digits of the name's hash tell it from its like:
    the scripts of a book in another alphabet do not replace one another.
    """
    folded = unicodedata.normalize("NFKD", name.casefold())
    kept = "".join(character for character in folded if not unicodedata.combining(character))
    slug = re.sub(r"[^a-z0-9]+", "-", kept).strip("-")
    short = slug[:_MAX_SLUG].strip("-")
    if short and short == slug and not any(c.isalnum() and not c.isascii() for c in kept):
        return slug
    return f"{short or 'narration'}-{hashlib.sha256(folded.encode()).hexdigest()[:_TOLD_APART]}"


def published_id(narration_id: str, engine: EngineName) -> str:
    """The id a narration is published under: a draft's always ends with `-draft`, no other's ever does."""
    if engine == "draft":
        return narration_id if narration_id.endswith(DRAFT_SUFFIX) else narration_id + DRAFT_SUFFIX
    if narration_id.endswith(DRAFT_SUFFIX):
        raise SettingsError(
            f"the id {narration_id!r} is a draft's", remedy=f"leave {DRAFT_SUFFIX!r} out, or say engine=draft"
        )
    return narration_id
