"""One paragraph of a script, and which of a text's characters are there to be spoken."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

_SPEAKABLE = "LMNS"
"""Letters, marks, numbers and symbols: the Unicode categories that are never lost, doubled or reordered."""

_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]"
)
"""Soft hyphen, zero-width space, byte order mark, direction and annotation controls.

They neither sound nor change a neighbour's shape. The joiners (U+200C, U+200D) and the tags of
flag emoji do change it, so those stay.
"""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text between two pauses, without markup, words one space apart. `level`: 1-6 for a heading, else 0."""

    text: str
    kind: Literal["heading", "paragraph", "item"]
    level: int


def tidy(text: str) -> str:
    """`text` without invisible characters, each run of whitespace one space, none at the ends."""
    return " ".join(_INVISIBLE.sub("", text).split())


def is_speakable(text: str) -> bool:
    """Whether `text` holds a letter, mark, number or symbol; punctuation alone is silence."""
    return any(unicodedata.category(character)[0] in _SPEAKABLE for character in text)
