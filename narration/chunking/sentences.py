"""Splitting a paragraph into sentences, by pysbd and rules for what pysbd gets wrong.

Of pysbd's answer only the offsets are used, and every sentence is cut from the paragraph itself: text
that pysbd drops, repeats or changes can misplace a boundary but never lose a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pysbd

from narration.chunking.abbreviations import sentence_goes_on
from narration.chunking.punctuation import (
    APOSTROPHES,
    CLOSERS,
    CLOSING,
    COLONS,
    ENCLOSERS,
    OTHER_STOPS,
    STOPS,
    WIDE_COLONS,
    WIDE_STOPS,
)
from narration.script.paragraph import is_speakable

_WINDOW = 4_000  # characters given to pysbd at once, since its time grows faster than the text

# pysbd uses these characters as internal marks and replaces every one of them in its answer.
_SENTINELS = str.maketrans(dict.fromkeys("∯∮♨☝♬♭☉☇☈☄ȸȹƪ♟♝☏✂⌬⎋ᓰᓱᓳᓴᓷᓸ", "¤"))
# In ".[1, 2, 3" without a closing bracket, pysbd tries every grouping of the digits.
_REFERENCE = re.compile(r"(?<=[.¤]\[)[\d,\s-]{16,}")

_ENCLOSING = re.compile(rf"[{re.escape(ENCLOSERS)}]|(?<!\w)[{APOSTROPHES}]|[{APOSTROPHES}](?!\w)")
"""Marks between which pysbd ends no sentence: quotation marks and brackets, not an apostrophe in a word."""

_WIDE_END = re.compile(rf"[{WIDE_STOPS}]{CLOSING}$")
_OTHER_END = re.compile(rf"[{OTHER_STOPS}]{CLOSING} ")
"""Ends of sentences that pysbd's English does not know."""
_ANY_END = re.compile(rf"[{STOPS}{WIDE_STOPS}{OTHER_STOPS})].")
"""A paragraph without such a mark before its last character is one sentence. A bracket numbers a list."""
_PLAIN_END = re.compile(rf"[{STOPS}]{CLOSING} |[{WIDE_STOPS}]{CLOSING}")
_ITEM = re.compile(r"(\d{1,3}|[A-Za-z])\. ")
_BEFORE_ITEM = re.compile(rf"[{STOPS}{WIDE_STOPS}{OTHER_STOPS}{COLONS}{WIDE_COLONS}]{CLOSING} $")
_LOOKBACK = 16  # characters before a boundary that decide whether it is one

_SEGMENTER = pysbd.Segmenter(language="en", clean=False)


def split_sentences(paragraph: str, *, within_quotes: bool = False) -> list[str]:
    """The sentences of `paragraph` in order; its words must stand one space apart.

    Joined by spaces the sentences are the paragraph, with a space more after each wide full stop that
    has none. Each sentence holds something speakable, unless the paragraph holds nothing. With
    `within_quotes`, sentences end inside quotation marks and brackets too. Linear in the length.
    """
    if not _ANY_END.search(paragraph):
        return [paragraph] if paragraph else []
    cased = paragraph != paragraph.lower()
    begins = [0]
    silent, seen = True, 0  # whether the current sentence holds nothing speakable up to `seen`
    for start in sorted({*_starts(paragraph, within_quotes), *_other_starts(paragraph)}):
        silent = silent and not is_speakable(paragraph[seen:start])
        seen = start
        if not silent and _is_boundary(paragraph, start, cased=cased):
            begins.append(start)
            silent = True
    if len(begins) > 1 and silent and not is_speakable(paragraph[seen:]):
        begins.pop()
    ends = [*begins[1:], len(paragraph)]
    sentences = (paragraph[begin:end].strip() for begin, end in zip(begins, ends, strict=True))
    return [sentence for sentence in sentences if sentence]


def _is_boundary(paragraph: str, start: int, *, cased: bool) -> bool:
    """Whether a sentence begins at `start`, where pysbd or a rule begins one; `cased`: there are capitals."""
    before = paragraph[max(0, start - _LOOKBACK) : start]
    if not before.endswith(" "):
        return _WIDE_END.search(before) is not None
    return not sentence_goes_on(before, paragraph, start, cased=cased)


def _other_starts(paragraph: str) -> Iterator[int]:
    return (end.end() for end in _OTHER_END.finditer(paragraph))


def _starts(paragraph: str, within_quotes: bool) -> Iterator[int]:
    """Offsets at which pysbd begins a sentence; it is given one window of the paragraph after another.

    A window begins with a sentence, so that pysbd is given each sentence whole, unless it is longer
    than half a window; such a sentence fits no chunk and is cut in any case.
    """
    begin = 0
    while begin < len(paragraph):
        end = len(paragraph)
        if end - begin > _WINDOW:
            end = begin + _WINDOW
            space = paragraph.rfind(" ", begin + _WINDOW // 2, end)
            end = end if space < 0 else space
        starts = _starts_in(paragraph[begin:end], within_quotes)
        yield from (begin + start for start in starts)
        whole = starts[-1] if starts and end < len(paragraph) else 0
        begin = begin + whole if whole > _WINDOW // 2 else end


def _starts_in(window: str, within_quotes: bool) -> list[int]:
    """Offsets in `window` at which a sentence begins after another one."""
    masked = window.translate(_SENTINELS)
    masked = _REFERENCE.sub(lambda digits: "¤" * len(digits.group()), masked)
    if within_quotes:
        masked = _ENCLOSING.sub(" ", masked)
    try:
        sentences = _SEGMENTER.processor(masked).process()
    except Exception:  # noqa: BLE001 - pysbd builds patterns from the text, and a bad one must not end a run
        return _plain_starts(masked)
    starts: list[int] = []
    at = 0
    for sentence in map(str.strip, sentences):
        at = _skip(masked, at, " ")
        if not masked.startswith(sentence, at):
            return _plain_starts(masked)
        at += len(sentence)
        starts.append(_skip(window, _skip(window, at, CLOSERS), " "))
    if masked[at:].strip():
        return _plain_starts(masked)
    return [start for start in _without_list_errors(window, starts) if start < len(window)]


def _without_list_errors(window: str, starts: list[int]) -> Iterator[int]:
    """`starts` without those at a number or letter that ends a sentence instead of numbering a list.

    pysbd takes "level 1. The rest reached level 2. Then" for a list. Here the first item of a list must
    follow the end of a sentence or clause, and each other item must bear the next number or letter.
    """
    item = _ITEM.match(window)
    last = _ordinal(item[1]) if item else None
    for start in starts:
        item = _ITEM.match(window, start)
        if item is None:
            yield start
        elif _BEFORE_ITEM.search(window[max(0, start - _LOOKBACK) : start]) or _ordinal(item[1]) - 1 == last:
            last = _ordinal(item[1])
            yield start
        else:
            yield item.end()


def _ordinal(label: str) -> int:
    return int(label) if label.isdecimal() else ord(label)


def _plain_starts(window: str) -> list[int]:
    """Offsets after plain full stops, for a window that pysbd fails on or gives back altered."""
    return [end.end() for end in _PLAIN_END.finditer(window) if end.end() < len(window)]


def _skip(text: str, at: int, characters: str) -> int:
    """The first offset from `at` on whose character is not one of `characters`."""
    while at < len(text) and text[at] in characters:
        at += 1
    return at
