"""Caption text on lines: never wider than a line, never through a character as a reader sees it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import regex

LINE_WIDTH = 42  # columns, as `width` counts them
MAX_LINES = 2

_GRAPHEME = regex.compile(r"\X\p{M}*")
"""A grapheme cluster (UAX #29), with the vowel signs of Burmese that the standard leaves out of it."""

_CLOSING = frozenset(",.;:!?)]}»”’…、。，．！？；：」』）】〉》ー々")  # noqa: RUF001  never begin a line
_CLAUSE_ENDS = frozenset(",.;:!?)…—–、。，！？；：")  # noqa: RUF001  a line ends best after these

_ABBREVIATION = re.compile(r"(?!\W*[ap]\.m\.)\W*(?:(?:\w\.)*\w|[A-Z][a-z]{1,2}|Prof|Sept)\.")
"""What no sentence ends in, short of the whole: "e.g.", "U.S.", "z.", "St.", "Dec."."""


@dataclass(frozen=True, slots=True)
class _Token:
    """The least that is kept together; `spaced` from the token before. `width` in columns."""

    text: str
    width: int
    spaced: bool


def caption_blocks(sentence: str) -> tuple[tuple[str, ...], ...]:
    """`sentence` as captions in reading order, each of one or two lines of `LINE_WIDTH` columns.

    Lines break at spaces, between CJK characters, or within a word wider than a line, between its
    graphemes; captions are filled evenly and end after punctuation where they can. No text, or
    nothing that can be seen, gives no captions. Linear in the sentence's length.
    """
    row = _Row(list(_tokens(sentence)))
    return tuple(_lines(row, first, last) for first, last in _blocks(row))


def graphemes(text: str) -> list[str]:
    """The characters of `text` as a reader sees them: a letter with its marks, a joined emoji, a flag."""
    return _GRAPHEME.findall(text)


def width(text: str) -> int:
    """Columns that `text` takes: two for a wide grapheme, but never less than its code points."""
    return sum(_cluster_width(cluster) for cluster in graphemes(text))


def _cluster_width(cluster: str) -> int:
    return max(2 if _is_wide(cluster) else 1, len(cluster))


def _is_wide(cluster: str) -> bool:
    return unicodedata.east_asian_width(cluster[0]) in "WF"


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
    """A word whole; in parts around each wide character, and wherever a part would overfill a line."""
    part, taken = "", 0
    for cluster in graphemes(word):
        needed = _cluster_width(cluster)
        breaks = (_is_wide(cluster) or (part and _is_wide(part))) and cluster[0] not in _CLOSING
        if part and (breaks or taken + needed > LINE_WIDTH):
            yield part
            part, taken = "", 0
        part += cluster
        taken += needed
    if part:
        yield part


class _Row:
    """A sentence's tokens with their running width, so that any range is measured in one step."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self._ends = [0, *accumulate(token.width + token.spaced for token in tokens)]

    def width(self, first: int, last: int) -> int:
        """Columns of the tokens `first` to `last` on one line."""
        return self._ends[last] - self._ends[first] - self.tokens[first].spaced

    def text(self, first: int, last: int) -> str:
        """The tokens `first` to `last` as they are read."""
        return "".join(" " * token.spaced + token.text for token in self.tokens[first:last]).lstrip()

    def ends_clause(self, last: int) -> bool:
        """Whether the token before `last` ends a clause, or all."""
        if last == len(self.tokens):
            return True
        return self.tokens[last - 1].text[-1] in _CLAUSE_ENDS and not self.clings(last)

    def clings(self, last: int) -> bool:
        """Whether `last` is read with the token before: "e.g. iron", "Dr. Who", "25 °C"."""
        if last == len(self.tokens) or not self.tokens[last].spaced:
            return False
        before, after = self.tokens[last - 1].text, self.tokens[last].text
        if _ABBREVIATION.fullmatch(before):
            return True
        return before[-1].isdecimal() and not after[0].isdecimal() and len(after.rstrip(".,;:!?)")) <= 3

    def line_end(self, first: int) -> int:
        """One past the last token that fits on a line beginning at `first`."""
        last = first + 1
        while last < len(self.tokens) and self.width(first, last + 1) <= LINE_WIDTH:
            last += 1
        return last


def _blocks(row: _Row) -> Iterator[tuple[int, int]]:
    """Ranges of tokens, one per caption, chosen for the least total cost from the end backwards."""
    count = len(row.tokens)
    best = [(0.0, count)] * (count + 1)
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
    """One per caption, plus emptiness squared, less a little for ending where a clause does."""
    emptiness = 1 - row.width(first, last) / (LINE_WIDTH * MAX_LINES)
    return 1 + emptiness**2 + (0 if row.ends_clause(last) else 0.15) + 0.15 * row.clings(last)


def _lines(row: _Row, first: int, last: int) -> tuple[str, ...]:
    """One line where it holds all; else two, of much the same width, the first ending a clause if it can."""
    if row.width(first, last) <= LINE_WIDTH or last - first == 1:
        return (row.text(first, last),)
    middles = [
        middle
        for middle in range(first + 1, last)
        if row.width(first, middle) <= LINE_WIDTH and row.width(middle, last) <= LINE_WIDTH
    ]

    def raggedness(middle: int) -> int:
        uneven = abs(row.width(first, middle) - row.width(middle, last))
        return uneven - (8 if row.ends_clause(middle) else 0) + 8 * row.clings(middle)

    middle = min(middles or [row.line_end(first)], key=raggedness)
    return row.text(first, middle), row.text(middle, last)
