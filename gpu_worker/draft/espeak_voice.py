"""How espeak-ng is to read a text: by which voice, and what in place of what that voice cannot read."""

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
"""The first word of a letter's Unicode name -> espeak-ng's voice."""

MORAE = "あいうえおかきくけこさしすせそ"
"""Sounds of one length. A Chinese character in Japanese gets two of them, as many as it has on average."""


def voice_of(text: str) -> str:
    """espeak-ng's voice for the script that most of the letters are of; Latin is read as English.

    An English voice spells other scripts letter by letter, at many times a speaker's pace.
    """
    scripts = Counter(unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha())
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:
        return JAPANESE  # which is written with Chinese characters too
    return VOICES.get(scripts.most_common(1)[0][0], LATIN) if scripts else LATIN


def readable(text: str, voice: str) -> str:
    """`text` with sounds in place of what `voice` would not read but describe.

    espeak-ng's Japanese knows no Chinese character, and says so of each at three times a speaker's
    pace. Sounds of its own in its place keep the time, which is what a draft is for, not the word.
    """
    return "".join(map(_sounds, text)) if voice == JAPANESE else text


def spelled(text: str) -> str:
    """Each visible character by its Unicode name: "→" is "rightwards arrow"."""
    return ", ".join(unicodedata.name(c, "unnamed character").lower() for c in text if not c.isspace())


def _sounds(character: str) -> str:
    if not unicodedata.name(character, "").startswith(("CJK", "IDEOGRAPHIC ITERATION")):
        return character
    first, second = divmod(ord(character), len(MORAE))
    return MORAE[first % len(MORAE)] + MORAE[second]
