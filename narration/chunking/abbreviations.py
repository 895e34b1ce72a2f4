"""Periods that look like the end of a sentence and are none: abbreviations, numbers, German ordinals.

pysbd knows English abbreviations. These rules add those that a number or a lower-case letter follows,
and German, which writes nouns with a capital, so that the word after an abbreviation or an ordinal
looks like the beginning of a sentence.
"""

from __future__ import annotations

import re

from narration.chunking.punctuation import CLOSING

_PERIOD = re.compile(rf"[.…]{CLOSING} $")
_NUMBERED = re.compile(r"\b(?:approx|ca?|ch|chap|eq|est|figs|sect|tab|vols?)\. $", re.IGNORECASE)

_GERMAN = re.compile(r"\b(?:abb|mio|mrd|nr|bspw|bzw|evtl|exkl|ggf|inkl|sog|vgl|zzgl)\. $", re.IGNORECASE)
_LETTERS = re.compile(r"(?<!\w)[a-zäöü]\. \w\. $")  # "u. a. Rot"
_LETTER, _INITIAL = re.compile(r"(?<!\w)[a-zäöü]\. $"), re.compile(r"\w\. ")  # "z. B. Blau"
_ORDINAL = re.compile(r"\b(?:beim|das|dem|den|der|des|die|im|vom|zum|zur) \d{1,2}\. $", re.IGNORECASE)
_DAY = re.compile(r"\b\d{1,2}\. $")
_MONTH = re.compile(r"(?:Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember)\b")
_DATED = re.compile(r"\b(?:ab|am|bis|seit) \d{1,2}\. $", re.IGNORECASE)
_MONTH_IN_ENGLISH_TOO = re.compile(r"(?:April|August|September|November)\b")


def sentence_goes_on(before: str, paragraph: str, start: int, *, cased: bool) -> bool:
    """Whether the sentence that `before` ends with goes on at offset `start` of `paragraph`.

    `before` holds the last characters before `start`, up to the space in front of it. `cased`: whether
    the paragraph has capitals, so that a lower-case letter does not begin a sentence.
    """
    if cased and _PERIOD.search(before) and paragraph[start : start + 1].islower():
        return True  # "approx. five", whether pysbd knows the abbreviation or not
    if _NUMBERED.search(before) and paragraph[start : start + 1].isdecimal():
        return True
    return _goes_on_in_german(before, paragraph, start)


def _goes_on_in_german(before: str, paragraph: str, start: int) -> bool:
    if _GERMAN.search(before) or _LETTERS.search(before) or _ORDINAL.search(before):
        return True
    if _LETTER.search(before) and _INITIAL.match(paragraph, start):
        return True
    if _DAY.search(before) and _MONTH.match(paragraph, start):
        return True
    return bool(_DATED.search(before) and _MONTH_IN_ENGLISH_TOO.match(paragraph, start))
