"""The marks that tell a voice where to pause, in the scripts that share them."""
# ruff: noqa: RUF001 - these marks are meant, not the Latin ones they resemble

from __future__ import annotations

import re
import unicodedata

STOPS = ".!?"
OTHER_STOPS = "…‽‼⁇⁈⁉؟۔।॥։።"
WIDE_STOPS = "。．！？｡"
"""Wide marks need no space after them."""
COLONS, WIDE_COLONS = ";:؛", "；："
COMMAS, WIDE_COMMAS = ",،", "，、､"
DASHES = "—–"

CLOSERS = "\"'”’»›)]}）」』】"
CLOSING = rf"[{re.escape(CLOSERS)}]*"
"""Pattern of the quotation marks and brackets that may close after a mark."""
APOSTROPHES = "'‘’‚‛"
ENCLOSERS = '"“”„‟«»‹›()[]{}（）「」『』【】'
"""Quotation marks and brackets, opening and closing, but for those that are apostrophes too."""

_PAUSES = frozenset(STOPS + OTHER_STOPS + WIDE_STOPS + COLONS + WIDE_COLONS + COMMAS + WIDE_COMMAS + DASHES)
_UNHEARD = frozenset(["Pe", "Pf", "Pi", "Mn", "Me", "Cf", "Zs", "So", "Sk"])
"""Categories of what may stand after a final mark: brackets, quotes, emoji and what they are made of."""


def ends_in_a_pause(text: str) -> bool:
    """Whether the voice comes to rest at the end of `text`: its last mark says so."""
    for character in reversed(text):
        if character in _PAUSES:
            return True
        if character not in CLOSERS and unicodedata.category(character) not in _UNHEARD:
            return False
    return False
