"""The sentences of a paragraph, found by pysbd: the one room that knows it.

pysbd says where sentences begin; every character comes from the paragraph itself. So whatever
pysbd drops, repeats or changes on its way can misplace a boundary and never lose a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pysbd

from narration.chunking.german import goes_on_in_german
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

_WINDOW = 4_000  # characters pysbd sees at once; its time grows faster than the text

# pysbd marks its progress with characters of its own and turns every one of them into something
# else at the end, also those that stood in the text.
_SENTINELS = str.maketrans(dict.fromkeys("∯∮♨☝♬♭☉☇☈☄ȸȹƪ♟♝☏✂⌬⎋ᓰᓱᓳᓴᓷᓸ", "¤"))
# In ".[1, 2, 3" without its closing bracket, pysbd tries every way to group the digits.
_REFERENCE = re.compile(r"(?<=[.¤]\[)[\d,\s-]{16,}")

_ENCLOSING = re.compile(rf"[{re.escape(ENCLOSERS)}]|(?<!\w)[{APOSTROPHES}]|[{APOSTROPHES}](?!\w)")
"""What pysbd sees no sentence end between; an apostrophe inside a word is none of it."""

_WIDE_END = re.compile(rf"[{WIDE_STOPS}]{CLOSING}$")
_OTHER_END = re.compile(rf"[{OTHER_STOPS}]{CLOSING} ")
"""Ends that pysbd's English does not know."""
_ANY_END = re.compile(rf"[{STOPS}{WIDE_STOPS}{OTHER_STOPS})].")
"""Without one of these (a bracket numbers a list) before the last character, there is one sentence."""
_PLAIN_END = re.compile(rf"[{STOPS}]{CLOSING} |[{WIDE_STOPS}]{CLOSING}")
_PERIOD = re.compile(rf"[.…]{CLOSING} $")
_NUMBERED = re.compile(r"\b(?:approx|ca?|ch|chap|eq|est|figs|sect|tab|vols?)\. $", re.IGNORECASE)
_ITEM = re.compile(r"(\d{1,3}|[A-Za-z])\. ")
_BEFORE_ITEM = re.compile(rf"[{STOPS}{WIDE_STOPS}{OTHER_STOPS}{COLONS}{WIDE_COLONS}]{CLOSING} $")
_LOOKBACK = 16  # characters before a boundary that tell whether it is one

_SEGMENTER = pysbd.Segmenter(language="en", clean=False)


def split_sentences(paragraph: str, *, within_quotes: bool = False) -> list[str]:
    """Sentences of `paragraph`, whose words stand one space apart, in order and without outer spaces.

    Joined by spaces they are the paragraph again, but for a space where a wide full stop had none
    after it. None is without a letter, mark, number or symbol unless the paragraph is. With
    `within_quotes`, sentences end inside quotation marks and brackets too. Time is linear in length.
    """
    if not _ANY_END.search(paragraph):
        return [paragraph] if paragraph else []
    cased = paragraph != paragraph.lower()
    begins = [0]
    silent, seen = True, 0  # whether the sentence that began last says nothing up to `seen`
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
    """Whether a sentence may begin at `start`, where a rule says that one does.

    `cased`: whether the paragraph writes sentences with a capital, if its script has them.
    """
    before = paragraph[max(0, start - _LOOKBACK) : start]
    if not before.endswith(" "):
        return _WIDE_END.search(before) is not None
    if cased and _PERIOD.search(before) and paragraph[start : start + 1].islower():
        return False  # "approx. five": an abbreviation, whether pysbd knows it or not
    if _NUMBERED.search(before) and paragraph[start : start + 1].isdecimal():
        return False
    return not goes_on_in_german(before, paragraph, start)


def _other_starts(paragraph: str) -> Iterator[int]:
    return (end.end() for end in _OTHER_END.finditer(paragraph))


def _starts(paragraph: str, within_quotes: bool) -> Iterator[int]:
    """Offsets at which pysbd has a sentence begin, window by window.

    A window begins where a sentence does, so that pysbd sees each sentence whole; one longer
    than half a window, which no chunk can hold, is seen in parts.
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
    except Exception:  # noqa: BLE001 - pysbd builds patterns from the text; no text of ours may stop a narration
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
    return [start for start in _unlisted(window, starts) if start < len(window)]


def _unlisted(window: str, starts: list[int]) -> Iterator[int]:
    """`starts`, but that a number which closes a sentence begins none.

    pysbd takes "level 1. The rest reached level 2. Then" for a list. A list's first item stands
    where a sentence or a clause ended, and its others carry the next number or letter.
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
    """What `_starts_in` answers where pysbd's sentences are not the text it was given."""
    return [end.end() for end in _PLAIN_END.finditer(window) if end.end() < len(window)]


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at
