"""Cutting a sentence that is too long for one chunk: at a clause, else a word, else a character."""

from __future__ import annotations

import re
import unicodedata

from narration.chunking.punctuation import (
    CLOSING,
    COLONS,
    COMMAS,
    OTHER_STOPS,
    WIDE_COLONS,
    WIDE_COMMAS,
    WIDE_STOPS,
)

_BREAKS = (
    # A period after fewer than four letters more likely ends an abbreviation.
    re.compile(rf"(?:(?<=[^\W\d_]{{4}})[.]|[!?{OTHER_STOPS}]){CLOSING}\s|[{WIDE_STOPS}]{CLOSING}"),
    re.compile(rf"[{COLONS}]{CLOSING}\s|[{WIDE_COLONS}]{CLOSING}|\s[-–—]+\s|—"),  # noqa: RUF001 - dashes
    re.compile(rf"[{COMMAS}]{CLOSING}\s|[{WIDE_COMMAS}]{CLOSING}|[)\]]\s"),
    re.compile(r"\s"),
)
"""Where a sentence may be cut, best first: after a sentence inside it, a clause, a phrase, a word."""

_JOINER = "\u200d"
_ATTACHED = re.compile("[\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
"""Joiners, skin tones and flag tags, which belong to the character before them like combining marks."""
_FLAG_LETTER = re.compile("[\U0001f1e6-\U0001f1ff]")
_LEADING_JAMO = re.compile("[\u1100-\u115f\ua960-\ua97c]")
_FOLLOWING_JAMO = re.compile("[\u1160-\u11ff\ud7b0-\ud7fb]")
_VIRAMA = 9  # canonical combining class of the marks that fuse an Indic consonant with the next


def split_long(sentence: str, *, limit: int, least: int) -> list[str]:
    """The parts of `sentence` in order, each of at most `limit` characters, without outer spaces.

    Each part is as long as possible. It ends at a clause if it then has at least a third of `limit`,
    else after a word if it has at least `least` characters, else inside a word, between grapheme
    clusters (characters as a reader sees them) unless one cluster is over the limit.
    """
    parts: list[str] = []
    begin = 0
    while len(sentence) - begin > limit:
        end = _cut(sentence, begin, limit, least)
        parts.append(sentence[begin:end].strip())
        begin = end
    parts.append(sentence[begin:].strip())
    return [part for part in parts if part]


def _cut(text: str, begin: int, limit: int, least: int) -> int:
    """The offset at which the part that begins at `begin` ends, a space after it included."""
    last = min(begin + limit, len(text) - least)
    for pattern in _BREAKS:
        shortest = least if pattern is _BREAKS[-1] else limit // 3
        breaks = (match.end() for match in pattern.finditer(text, begin + shortest, last + 1))
        ends = [end for end in breaks if end <= last or text[last].isspace()]
        if ends:
            return ends[-1]
    return _between_characters(text, begin, last)


def _between_characters(text: str, begin: int, at: int) -> int:
    """The last boundary between grapheme clusters after `begin` and up to `at`; `at` if there is none."""
    for boundary in range(at, begin, -1):
        if not _inside_cluster(text, begin, boundary):
            return boundary
    return at


def _inside_cluster(text: str, begin: int, at: int) -> bool:
    """Whether `text[at - 1]` and `text[at]` are in one grapheme cluster; a cluster begins at `begin`.

    An approximation of UAX #29, kept although `regex` knows the standard: the cut decides the texts
    of chunks and so their digests, and the standard cuts unspaced Thai and Burmese elsewhere.
    """
    before, after = text[at - 1], text[at]
    if unicodedata.category(after)[0] == "M" or _ATTACHED.match(after) or before == _JOINER:
        return True
    if unicodedata.combining(before) == _VIRAMA and unicodedata.category(after) == "Lo":
        return True
    if _FOLLOWING_JAMO.match(after) and (_LEADING_JAMO.match(before) or _FOLLOWING_JAMO.match(before)):
        return True
    if _FLAG_LETTER.match(before) and _FLAG_LETTER.match(after):
        first = at - 1
        while first > begin and _FLAG_LETTER.match(text[first - 1]):
            first -= 1
        return (at - first) % 2 == 1  # flags are pairs, counted from the first letter of the run
    return False
