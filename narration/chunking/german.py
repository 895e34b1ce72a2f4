"""What looks like the end of a sentence in German and is none.

German writes nouns with a capital, so that what follows an abbreviation or an ordinal looks like
a sentence of its own.
"""

from __future__ import annotations

import re

_ABBREVIATED = re.compile(r"\b(?:abb|mio|mrd|nr|bspw|bzw|evtl|exkl|ggf|inkl|sog|vgl|zzgl)\. $", re.IGNORECASE)
_LETTERS = re.compile(r"(?<!\w)[a-zäöü]\. \w\. $")  # "u. a. Rot"
_LETTER, _INITIAL = re.compile(r"(?<!\w)[a-zäöü]\. $"), re.compile(r"\w\. ")  # "z. B. Blau"
_ORDINAL = re.compile(r"\b(?:beim|das|dem|den|der|des|die|im|vom|zum|zur) \d{1,2}\. $", re.IGNORECASE)
_DAY = re.compile(r"\b\d{1,2}\. $")
_MONTH = re.compile(r"(?:Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember)\b")
_DATED = re.compile(r"\b(?:ab|am|bis|seit) \d{1,2}\. $", re.IGNORECASE)
_MONTH_IN_ENGLISH_TOO = re.compile(r"(?:April|August|September|November)\b")


def goes_on_in_german(before: str, paragraph: str, start: int) -> bool:
    """Whether the sentence goes on at `start`: `before` it stands an abbreviation or an ordinal."""
    if _ABBREVIATED.search(before) or _LETTERS.search(before) or _ORDINAL.search(before):
        return True
    if _LETTER.search(before) and _INITIAL.match(paragraph, start):
        return True
    if _DAY.search(before) and _MONTH.match(paragraph, start):
        return True
    return bool(_DATED.search(before) and _MONTH_IN_ENGLISH_TOO.match(paragraph, start))
