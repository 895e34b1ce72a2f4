"""Narration ids: made from a file's name, and with `-draft` at the end for narrations in the draft voice."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from narration.errors import SettingsError
from narration.settings import ASK_FOR_DRAFT, EngineName

DRAFT_SUFFIX = "-draft"

_MAX_SLUG = 80  # characters, of the 100 that an id may have
_HASH_DIGITS = 6  # hex


def narration_slug(name: str) -> str:
    """An id made from a file's name: lowercase letters without accents, digits and hyphens.

    Where the id cannot hold all letters and digits of the name, it ends with some digits of the name's
    hash: names in another alphabet would otherwise all give the same id.
    """
    folded = unicodedata.normalize("NFKD", name.casefold())
    without_accents = "".join(character for character in folded if not unicodedata.combining(character))
    slug = re.sub(r"[^a-z0-9]+", "-", without_accents).strip("-")
    short = slug[:_MAX_SLUG].strip("-")
    if short and short == slug and not any(c.isalnum() and not c.isascii() for c in without_accents):
        return slug
    return f"{short or 'narration'}-{hashlib.sha256(folded.encode()).hexdigest()[:_HASH_DIGITS]}"


def published_id(narration_id: str, engine: EngineName) -> str:
    """The id that a narration is published under: a draft's ends with `-draft`, no other's does."""
    if engine == "draft":
        return narration_id if narration_id.endswith(DRAFT_SUFFIX) else narration_id + DRAFT_SUFFIX
    if narration_id.endswith(DRAFT_SUFFIX):
        raise SettingsError(
            f"the id {narration_id!r} is reserved for a draft",
            remedy=f"leave {DRAFT_SUFFIX!r} out, or {ASK_FOR_DRAFT}",
        )
    return narration_id
