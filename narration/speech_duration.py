"""How long a text takes to say: expected, for planning, and the bounds outside which it was not said.

A table of seconds per written unit, for a narrator of about 150 words a minute. It knows no
language and needs none: it has to be right within a third, not within a syllable. Measured on
espeak-ng at 100 to 260 words a minute in 13 languages, 150 words a minute take 0.7 to 1.35
times the expected seconds in running text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import dropwhile


@dataclass(frozen=True, slots=True)
class SpeechDuration:
    """Seconds a text takes when rushed, when narrated, and when drawn out.

    The further apart, the less the spelling says of the speech: "1999" is three syllables or
    nine, "NASA" a word or four letters.
    """

    fastest: float
    expected: float
    slowest: float


_SECONDS = {
    "text": SpeechDuration(0.05, 0.25, 1.0),  # once: the breath before and after
    "word": SpeechDuration(0.03, 0.07, 0.20),  # beyond its letters
    "letter": SpeechDuration(0.033, 0.058, 0.125),  # of an alphabet that writes its vowels
    "odd": SpeechDuration(0.0, 0.058, 0.125),  # a letter far into a word that no one would finish
    "capital": SpeechDuration(
        0.033, 0.22, 0.50
    ),  # of a letter alone or a short run of capitals: spelt, or read
    "digit": SpeechDuration(0.04, 0.32, 0.75),
    "ideograph": SpeechDuration(0.09, 0.24, 0.55),
    "syllable": SpeechDuration(0.07, 0.17, 0.40),  # hangul, kana
    "consonant": SpeechDuration(
        0.03, 0.095, 0.25
    ),  # scripts that leave vowels out, join them or write no spaces
    "comma": SpeechDuration(0.0, 0.17, 0.70),
    "stop": SpeechDuration(0.0, 0.33, 1.30),
    "sign": SpeechDuration(0.0, 0.30, 1.20),  # %, &, /: a word, or left out
    "symbol": SpeechDuration(0.0, 0.50, 1.60),  # arrows, currencies, emoji: one word, several, or left out
}
_TOKEN = re.compile(r"[^\W\d_]+|[.!?…]+|\s+|.", re.DOTALL)
_STOPS = frozenset(".!?…。！？؟।")  # noqa: RUF001  these marks are meant
_COMMAS = frozenset(",;:—–()、，；：،؛")  # noqa: RUF001  these marks are meant
_SILENT = frozenset("'\"’‘“”«»*_`[]{}-")  # noqa: RUF001  these marks are meant
_LONGEST_ACRONYM = 5  # letters; longer runs of capitals are words set in capitals
_LONGEST_WORD = 40  # letters; what follows may well be left out


def speech_duration(text: str) -> SpeechDuration:
    """The three paces of `text`, in seconds. Linear in its length."""
    units: Counter[str] = Counter(text=1)
    for token in _TOKEN.findall(text):
        if token[0].isalpha():
            _count_word(token, units)
        elif token.isalnum():
            _count_number(token, units)
        else:
            units[_unit(token)] += 1
    paces = [(_SECONDS[unit], count) for unit, count in units.items() if unit]
    return SpeechDuration(
        sum(speech_duration.fastest * count for speech_duration, count in paces),
        sum(speech_duration.expected * count for speech_duration, count in paces),
        sum(speech_duration.slowest * count for speech_duration, count in paces),
    )


def expected_seconds(text: str) -> float:
    """Seconds that narrating `text` is expected to take, pauses inside it included."""
    return speech_duration(text).expected


def _unit(token: str) -> str:
    """What a token that is no word and no number counts as; empty for what is not heard."""
    if token[0] in _STOPS or "\n" in token:
        return "stop"
    if token in _COMMAS:
        return "comma"
    if token.isspace() or token in _SILENT or unicodedata.category(token)[0] in "CM":
        return ""
    return "symbol" if unicodedata.category(token)[0] == "S" else "sign"


def _count_word(word: str, units: Counter[str]) -> None:
    spelt = (len(word) == 1 and word.isascii()) or (len(word) <= _LONGEST_ACRONYM and word.isupper())
    if spelt:
        units["capital"] += len(word)
        return
    units["word"] += 1
    kinds = Counter(letter=len(word)) if word.isascii() else Counter(_letter(ord(c)) for c in word)
    odd = max(0, kinds["letter"] - _LONGEST_WORD)
    units.update(kinds)
    units["letter"] -= odd
    units["odd"] += odd


def _count_number(token: str, units: Counter[str]) -> None:
    """Digits, and the word right behind: ½, ① and their like pass for letters of it in the pattern."""
    word = "".join(dropwhile(str.isnumeric, token))
    units["digit"] += len(token) - len(word)
    if word:
        _count_word(word, units)


def _letter(code: int) -> str:
    """The unit of one letter, by the block its code point lies in."""
    if code < 0x0590 or 0x10A0 <= code < 0x1100 or 0x1E00 <= code < 0x2000:
        return "letter"  # Latin, Greek, Cyrillic, Armenian, Georgian
    if 0x3040 <= code < 0x3100 or 0xAC00 <= code < 0xD7B0:
        return "syllable"
    if 0x3400 <= code < 0xA000 or 0xF900 <= code < 0xFB00 or code >= 0x20000:
        return "ideograph"
    return "consonant"
