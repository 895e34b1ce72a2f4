"""Chooses espeak-ng's voice for a text, and replaces characters that the voice cannot read."""

from __future__ import annotations

import unicodedata
from collections import Counter

LATIN = "en-us"
JAPANESE = "ja"
VOICES = {
    "ARABIC": "ar",
    "ARMENIAN": "hy",
    "BENGALI": "bn",
    "CJK": "cmn",
    "CYRILLIC": "ru",
    "DEVANAGARI": "hi",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "HANGUL": "ko",
    "HEBREW": "he",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
}
"""espeak-ng's voice for a script, by the first word of its letters' Unicode names."""

MORAE = "あいうえおかきくけこさしすせそ"
"""Japanese syllables of equal length. A Chinese character in Japanese gets two, the average."""


def choose_voice(text: str) -> str:
    """espeak-ng's voice for the script of most letters in `text`; Latin letters get the English voice.

    An English voice would spell other scripts letter by letter, many times slower than a speaker.
    """
    scripts = Counter(unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha())
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:
        return JAPANESE  # first, since Japanese is written with Chinese characters too
    return VOICES.get(scripts.most_common(1)[0][0], LATIN) if scripts else LATIN


def replace_unreadable(text: str, voice: str) -> str:
    """`text` with syllables in place of characters that `voice` would describe instead of read.

    espeak-ng's Japanese voice knows no Chinese characters and announces each as one, which takes
    three times as long as reading it. Two syllables keep the duration, which a draft is for, but
    not the word.
    """
    return "".join(map(_to_syllables, text)) if voice == JAPANESE else text


def spell_out(text: str) -> str:
    """The Unicode names of all visible characters: "→" becomes "rightwards arrow"."""
    return ", ".join(unicodedata.name(c, "unnamed character").lower() for c in text if not c.isspace())


def _to_syllables(character: str) -> str:
    if not unicodedata.name(character, "").startswith(("CJK", "IDEOGRAPHIC ITERATION")):
        return character
    first, second = divmod(ord(character), len(MORAE))
    return MORAE[first % len(MORAE)] + MORAE[second]
