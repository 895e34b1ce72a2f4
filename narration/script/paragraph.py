"""A paragraph of a script, and which characters of a text are speakable."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

_SPEAKABLE = "LMNS"
"""Unicode categories of speakable characters: letters, marks, numbers and symbols.

Every step from script to chunk keeps each of them, once and in order.
"""

_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a]"
)
"""Soft hyphen, zero-width space, byte order mark, direction and annotation controls.

They are neither spoken nor seen. The joiners (U+200C, U+200D) and the tags of flag emoji are not
among them, since they change the shape of the characters beside them.
"""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A heading, paragraph or list item: text without markup, words one space apart.

    `level` is 1 to 6 for a heading, else 0.
    """

    text: str
    kind: Literal["heading", "paragraph", "item"]
    level: int


def tidy(text: str) -> str:
    """`text` without invisible characters, with single spaces between words and none at the ends."""
    return " ".join(_INVISIBLE.sub("", text).split())


def is_speakable(text: str) -> bool:
    """Whether `text` holds a letter, mark, number or symbol; punctuation alone is not spoken."""
    return any(unicodedata.category(character)[0] in _SPEAKABLE for character in text)
