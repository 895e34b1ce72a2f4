"""Estimating how long a text takes to say: the expected duration, and the shortest and longest possible.

The estimate is a sum of seconds per written unit, such as a letter or a comma, for a narrator of about
150 words per minute, whatever the language. It is meant to be right to within a third: in running text
of 13 languages, espeak-ng at 150 words per minute takes 0.7 to 1.35 times the expected seconds.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import dropwhile


@dataclass(frozen=True, slots=True)
class SpeechDuration:
    """The seconds that a text takes at the fastest, the expected and the slowest speed.

    They are far apart where the spelling does not determine the speech: "1999" may be spoken in three
    syllables or nine, and "NASA" as a word or four letters.
    """

    fastest: float
    expected: float
    slowest: float


_SECONDS = {
    "text": SpeechDuration(0.05, 0.25, 1.0),  # once for each text: the breath before and after it
    "word": SpeechDuration(0.03, 0.07, 0.20),  # in addition to its letters
    "letter": SpeechDuration(0.033, 0.058, 0.125),  # of an alphabet that writes its vowels
    "excess letter": SpeechDuration(0.0, 0.058, 0.125),  # beyond `_LONGEST_WORD`, and may be left out
    "capital": SpeechDuration(0.033, 0.22, 0.50),  # a single letter, or one of an acronym: spelt or read
    "digit": SpeechDuration(0.04, 0.32, 0.75),
    "ideograph": SpeechDuration(0.09, 0.24, 0.55),
    "syllable": SpeechDuration(0.07, 0.17, 0.40),  # Hangul, kana
    "consonant": SpeechDuration(0.03, 0.095, 0.25),  # of scripts without vowel letters or without spaces
    "comma": SpeechDuration(0.0, 0.17, 0.70),
    "stop": SpeechDuration(0.0, 0.33, 1.30),
    "sign": SpeechDuration(0.0, 0.30, 1.20),  # %, &, /: a word, or not spoken
    "symbol": SpeechDuration(0.0, 0.50, 1.60),  # arrows, currencies, emoji: one word, several, or not spoken
}
_TOKEN = re.compile(r"[^\W\d_]+|[.!?…]+|\s+|.", re.DOTALL)
_STOPS = frozenset(".!?…。！？؟।")  # noqa: RUF001  these marks are meant
_COMMAS = frozenset(",;:—–()、，；：،؛")  # noqa: RUF001  these marks are meant
_SILENT = frozenset("'\"’‘“”«»*_`[]{}-")  # noqa: RUF001  these marks are meant
_LONGEST_ACRONYM = 5  # letters; longer runs of capitals are ordinary words in capitals
_LONGEST_WORD = 40  # letters; a speaker may leave out those that follow


def speech_duration(text: str) -> SpeechDuration:
    """The duration of `text` at three speeds, in seconds. Linear in the length of the text."""
    units: Counter[str] = Counter(text=1)
    for token in _TOKEN.findall(text):
        if token[0].isalpha():
            _count_word(token, units)
        elif token.isalnum():
            _count_number(token, units)
        else:
            units[_unit(token)] += 1
    durations = [(_SECONDS[unit], count) for unit, count in units.items() if unit]
    return SpeechDuration(
        sum(duration.fastest * count for duration, count in durations),
        sum(duration.expected * count for duration, count in durations),
        sum(duration.slowest * count for duration, count in durations),
    )


def expected_seconds(text: str) -> float:
    """The seconds that `text` is expected to take, including the pauses inside it."""
    return speech_duration(text).expected


def _unit(token: str) -> str:
    """The unit of a token that is neither a word nor a number; empty for one that is not spoken."""
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
    excess = max(0, kinds["letter"] - _LONGEST_WORD)
    units.update(kinds)
    units["letter"] -= excess
    units["excess letter"] += excess


def _count_number(token: str, units: Counter[str]) -> None:
    """Count digits, and letters after them: the token pattern takes ½ or ① and a word for one token."""
    word = "".join(dropwhile(str.isnumeric, token))
    units["digit"] += len(token) - len(word)
    if word:
        _count_word(word, units)


def _letter(code: int) -> str:
    """The unit of one letter, by the Unicode block of its code point."""
    if code < 0x0590 or 0x10A0 <= code < 0x1100 or 0x1E00 <= code < 0x2000:
        return "letter"  # Latin, Greek, Cyrillic, Armenian, Georgian
    if 0x3040 <= code < 0x3100 or 0xAC00 <= code < 0xD7B0:
        return "syllable"
    if 0x3400 <= code < 0xA000 or 0xF900 <= code < 0xFB00 or code >= 0x20000:
        return "ideograph"
    return "consonant"
