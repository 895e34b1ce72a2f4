"""Breaking the text of captions into lines of limited width, between words where possible."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import regex

LINE_WIDTH = 42  # columns, as `width` counts them
MAX_LINES = 2  # of one caption

_GRAPHEME = regex.compile(r"\X\p{M}*")
"""A grapheme cluster (UAX #29), with the vowel signs of Burmese that the standard leaves out of it."""

_CLOSING = frozenset(",.;:!?)]}»”’…、。，．！？；：」』）】〉》ー々")  # noqa: RUF001  begin no line
_CLAUSE_ENDS = frozenset(",.;:!?)…—–、。，！？；：")  # noqa: RUF001  a line preferably ends after one of these

_ABBREVIATION = re.compile(r"(?!\W*[ap]\.m\.)\W*(?:(?:\w\.)*\w|[A-Z][a-z]{1,2}|Prof|Sept)\.")
"""Abbreviations, after which no line should end: "e.g.", "U.S.", "z.", "St.", "Dec."."""


@dataclass(frozen=True, slots=True)
class _Token:
    """Text that no line break divides: `width` in columns; `spaced`: a space stands before it."""

    text: str
    width: int
    spaced: bool


def caption_blocks(sentence: str) -> tuple[tuple[str, ...], ...]:
    """The captions of `sentence` in reading order, each as one or two lines of up to `LINE_WIDTH` columns.

    Lines break at spaces and between CJK characters; a word wider than a line is broken between its
    graphemes. Captions are filled evenly, and end after punctuation where possible. Text without a
    visible character gives no captions. Linear in the length of the sentence.
    """
    row = _Row(list(_tokens(sentence)))
    return tuple(_lines(row, first, last) for first, last in _blocks(row))


def graphemes(text: str) -> list[str]:
    """The characters of `text` as a reader sees them: a letter with its marks, a joined emoji, a flag."""
    return _GRAPHEME.findall(text)


def width(text: str) -> int:
    """The columns that `text` takes: one for a grapheme, two for a wide one, or its code points if more."""
    return sum(_grapheme_width(grapheme) for grapheme in graphemes(text))


def _grapheme_width(grapheme: str) -> int:
    return max(2 if _is_wide(grapheme) else 1, len(grapheme))


def _is_wide(grapheme: str) -> bool:
    return unicodedata.east_asian_width(grapheme[0]) in "WF"


def _tokens(sentence: str) -> Iterator[_Token]:
    printable = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in sentence)
    for word in printable.split():
        if all(unicodedata.category(c) == "Cf" for c in word):
            continue
        spaced = True
        for part in _word_parts(word):
            yield _Token(part, width(part), spaced)
            spaced = False


def _word_parts(word: str) -> Iterator[str]:
    """The parts of a word between which a line may break: at wide characters, and where a line is full."""
    part, columns = "", 0
    for grapheme in graphemes(word):
        needed = _grapheme_width(grapheme)
        breaks = (_is_wide(grapheme) or (part and _is_wide(part))) and grapheme[0] not in _CLOSING
        if part and (breaks or columns + needed > LINE_WIDTH):
            yield part
            part, columns = "", 0
        part += grapheme
        columns += needed
    if part:
        yield part


class _Row:
    """The tokens of a sentence with their cumulative width, so that any range is measured in one step."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self._ends = [0, *accumulate(token.width + token.spaced for token in tokens)]

    def width(self, first: int, last: int) -> int:
        """The columns of the tokens from `first` up to `last` (exclusive) on one line."""
        return self._ends[last] - self._ends[first] - self.tokens[first].spaced

    def text(self, first: int, last: int) -> str:
        """The text of the tokens from `first` up to `last` (exclusive)."""
        return "".join(" " * token.spaced + token.text for token in self.tokens[first:last]).lstrip()

    def ends_clause(self, last: int) -> bool:
        """Whether the token before `last` ends a clause or the sentence."""
        if last == len(self.tokens):
            return True
        return self.tokens[last - 1].text[-1] in _CLAUSE_ENDS and not self.belongs_together(last)

    def belongs_together(self, last: int) -> bool:
        """Whether the token `last` belongs on the line of the one before: "e.g. iron", "Dr. Who", "25 °C"."""
        if last == len(self.tokens) or not self.tokens[last].spaced:
            return False
        before, after = self.tokens[last - 1].text, self.tokens[last].text
        if _ABBREVIATION.fullmatch(before):
            return True
        return before[-1].isdecimal() and not after[0].isdecimal() and len(after.rstrip(".,;:!?)")) <= 3

    def line_end(self, first: int) -> int:
        """The index after the last token that fits on a line beginning with the token `first`."""
        last = first + 1
        while last < len(self.tokens) and self.width(first, last + 1) <= LINE_WIDTH:
            last += 1
        return last


def _blocks(row: _Row) -> Iterator[tuple[int, int]]:
    """The range of tokens of each caption, so that the sum of all captions' costs is the least."""
    count = len(row.tokens)
    best = [(0.0, count)] * (count + 1)  # cost from a token to the end, and where its caption ends
    for first in range(count - 1, -1, -1):
        furthest = row.line_end(first)
        if furthest < count:
            furthest = row.line_end(furthest)
        best[first] = min(
            (_cost(row, first, last) + best[last][0], last) for last in range(first + 1, furthest + 1)
        )
    first = 0
    while first < count:
        last = best[first][1]
        yield first, last
        first = last


def _cost(row: _Row, first: int, last: int) -> float:
    """The cost of one caption: 1, more for empty space, and for an end within a clause or unit."""
    emptiness = 1 - row.width(first, last) / (LINE_WIDTH * MAX_LINES)
    return 1 + emptiness**2 + (0 if row.ends_clause(last) else 0.15) + 0.15 * row.belongs_together(last)


def _lines(row: _Row, first: int, last: int) -> tuple[str, ...]:
    """One line if the tokens fit on it, else two of similar width, the first ending a clause if possible."""
    if row.width(first, last) <= LINE_WIDTH or last - first == 1:
        return (row.text(first, last),)
    middles = [
        middle
        for middle in range(first + 1, last)
        if row.width(first, middle) <= LINE_WIDTH and row.width(middle, last) <= LINE_WIDTH
    ]

    def raggedness(middle: int) -> int:
        uneven = abs(row.width(first, middle) - row.width(middle, last))
        return uneven - (8 if row.ends_clause(middle) else 0) + 8 * row.belongs_together(middle)

    middle = min(middles or [row.line_end(first)], key=raggedness)
    return row.text(first, middle), row.text(middle, last)
