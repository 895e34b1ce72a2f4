"""Punctuation marks of many scripts, by the pause they stand for."""
# ruff: noqa: RUF001 - these marks are meant, not the Latin ones they resemble

from __future__ import annotations

import re
import unicodedata

STOPS = ".!?"
OTHER_STOPS = "…‽‼⁇⁈⁉؟۔।॥։።"
WIDE_STOPS = "。．！？｡"
"""Full stops of Chinese and Japanese, which need no space after them."""
COLONS, WIDE_COLONS = ";:؛", "；："
COMMAS, WIDE_COMMAS = ",،", "，、､"
DASHES = "—–"

CLOSERS = "\"'”’»›)]}）」』】"
CLOSING = rf"[{re.escape(CLOSERS)}]*"
"""Pattern of the quotation marks and brackets that may close after a mark."""
APOSTROPHES = "'‘’‚‛"
ENCLOSERS = '"“”„‟«»‹›()[]{}（）「」『』【】'
"""Quotation marks and brackets, opening and closing, except those that are apostrophes too."""

_PAUSES = frozenset(STOPS + OTHER_STOPS + WIDE_STOPS + COLONS + WIDE_COLONS + COMMAS + WIDE_COMMAS + DASHES)
_SILENT = frozenset(["Pe", "Pf", "Pi", "Mn", "Me", "Cf", "Zs", "So", "Sk"])
"""Unicode categories that may follow the final mark: brackets, quotes, emoji and their parts."""


def ends_in_a_pause(text: str) -> bool:
    """Whether `text` ends in a mark at which a voice pauses; quotes, brackets and emoji may follow it."""
    for character in reversed(text):
        if character in _PAUSES:
            return True
        if character not in CLOSERS and unicodedata.category(character) not in _SILENT:
            return False
    return False
