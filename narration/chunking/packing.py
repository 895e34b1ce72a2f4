"""Making chunks of a script's paragraphs: which sentences are spoken in one request.

A chunk is one or more whole sentences of one section, up to a limit of characters. The rules:

- A heading is a chunk of its own.
- A heading, list item or paragraph that does not end in punctuation gets a period, so that the voice
  falls at its end.
- Text that takes longer to say than European languages do (ideographs, columns of digits) has a
  lower limit: a half or a third, so that no chunk is much longer than 45 seconds.
- Chunks begin anew with each group of paragraphs, so that an edit changes no chunk outside its group.
  A group is one paragraph, except that text too short to be spoken well is joined: a paragraph
  shorter than `SHORT` with the next one of its section, the section's last with the one before it,
  and list items shorter than `SHORT` with each other.
- Sentences fill a chunk up to the limit. A chunk shorter than `SHORT` takes the last sentences of the
  chunk before it in its group.
- A sentence over the limit is cut at the sentences quoted in it, then as `narration.chunking.clauses` says.
- A sentence without a letter, mark, number or symbol is left out.

All other text of the paragraphs is in the chunks, once and in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Literal

from narration.chunking.clauses import split_long
from narration.chunking.punctuation import ends_in_a_pause
from narration.chunking.sentences import split_sentences
from narration.errors import SettingsError
from narration.script import Script
from narration.script.paragraph import Paragraph, is_speakable, tidy
from narration.speech_duration import expected_seconds

DEFAULT_LIMIT = 500  # characters: about half a minute of speech
MIN_LIMIT = 20
MAX_LIMIT = 2_000  # characters that a request's prompt may hold
SLOW_PACE = 0.09  # s per character, 45 s in 500 characters; text slower than this has a lower limit
SHORT = 40  # characters, under three seconds of speech; a quarter of the limit if that is less

Boundary = Literal["sentence", "paragraph", "heading", "end"]
"""What separates a chunk from the next one: "heading" if either is a heading, else "paragraph" if the
next one begins a paragraph or item, else "sentence" (also inside a cut sentence); "end" after the last."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one synthesis request: `sentences` joined by single spaces. `index` counts from 1.

    `boundary` separates the chunk from the next one; `level` is 1 to 6 for a heading, else 0.
    """

    index: int
    text: str
    sentences: tuple[str, ...]
    boundary: Boundary
    kind: Literal["heading", "text"]
    level: int


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence, or a part of one that was too long; `opens`: it is the first of its paragraph."""

    text: str
    opens: bool
    paragraph: Paragraph


def chunk_script(script: Script, *, limit: int = DEFAULT_LIMIT) -> tuple[Chunk, ...]:
    """The chunks of `script`, each of at most `limit` characters; they depend on nothing else.

    Raises `SettingsError` for a limit outside `MIN_LIMIT` to `MAX_LIMIT`.
    """
    if not MIN_LIMIT <= limit <= MAX_LIMIT:
        raise SettingsError(
            f"a chunk limit of {limit} characters", remedy=f"give one from {MIN_LIMIT} to {MAX_LIMIT}"
        )
    short = min(SHORT, limit // 4)
    packs = [
        pack
        for group in _groups(_punctuated(script.paragraphs), short)
        for pack in _group_packs(group, limit, short)
    ]
    boundaries: list[Boundary] = [*(_boundary(*pair) for pair in pairwise(packs)), "end"]
    return tuple(_chunk(number, pack, boundaries[number - 1]) for number, pack in enumerate(packs, start=1))


def _punctuated(paragraphs: Iterable[Paragraph]) -> Iterator[Paragraph]:
    """The speakable `paragraphs`, each ending in punctuation."""
    for paragraph in paragraphs:
        text = tidy(paragraph.text)
        if is_speakable(text):
            yield replace(paragraph, text=text if ends_in_a_pause(text) else f"{text}.")


def _groups(paragraphs: Iterable[Paragraph], short: int) -> list[list[Paragraph]]:
    """Neighbouring paragraphs whose sentences may share a chunk, as lists."""
    groups: list[list[Paragraph]] = []
    for paragraph in paragraphs:
        if groups and _joins(groups[-1], paragraph, short):
            groups[-1].append(paragraph)
        else:
            groups.append([paragraph])
    joined: list[list[Paragraph]] = []
    for group in groups:
        # A short group took the paragraphs after it, so only a section's last group can still be short.
        if joined and _length(group) < short and not _is_heading(group) and not _is_heading(joined[-1]):
            joined[-1].extend(group)
        else:
            joined.append(group)
    return joined


def _joins(group: list[Paragraph], paragraph: Paragraph, short: int) -> bool:
    if _is_heading(group) or paragraph.kind == "heading":
        return False
    if all(one.kind == "item" and len(one.text) < short for one in (group[-1], paragraph)):
        return True
    return _length(group) < short


def _length(group: list[Paragraph]) -> int:
    return sum(len(paragraph.text) + 1 for paragraph in group) - 1


def _is_heading(group: list[Paragraph]) -> bool:
    return group[0].kind == "heading"


def _group_packs(group: list[Paragraph], limit: int, short: int) -> list[list[_Sentence]]:
    limit = _limit(group, limit)
    short = min(short, limit // 4)
    return _packs(_sentences(group, limit, short), limit, short)


def _limit(group: list[Paragraph], limit: int) -> int:
    """The limit of characters for `group`: `limit`, or a half, a third, ... if its text is slow to say.

    By whole fractions, so that a small edit hardly ever changes the limit and with it every chunk.
    """
    seconds = sum(expected_seconds(paragraph.text) for paragraph in group)
    pace = seconds / max(_length(group), limit)
    divisor = ceil(min(pace / SLOW_PACE, pace * limit / SLOW_PACE / DEFAULT_LIMIT))
    return max(limit // max(divisor, 1), MIN_LIMIT)


def _sentences(group: Iterable[Paragraph], limit: int, short: int) -> Iterator[_Sentence]:
    """The sentences of the paragraphs in `group`, cut where they are over `limit` characters."""
    for paragraph in group:
        opens = True
        for sentence in split_sentences(paragraph.text):
            for part in _parts(sentence, limit, short):
                if is_speakable(part):
                    yield _Sentence(part, opens, paragraph)
                    opens = False


def _parts(sentence: str, limit: int, short: int) -> Iterator[str]:
    if len(sentence) <= limit:
        yield sentence
        return
    for quoted in split_sentences(sentence, within_quotes=True):
        yield from split_long(quoted, limit=limit, least=short)


def _packs(sentences: Iterable[_Sentence], limit: int, short: int) -> list[list[_Sentence]]:
    """The sentences of a group, divided into chunks."""
    packs: list[list[_Sentence]] = []
    size = limit
    for sentence in sentences:
        if size + 1 + len(sentence.text) > limit:
            packs.append([])
            size = -1
        packs[-1].append(sentence)
        size += 1 + len(sentence.text)
    for pack, following in pairwise(packs):
        # The moved sentence fits, since `following` is shorter than what stays in `pack`.
        while _size(following) < short <= _size(pack[:-1]):
            following.insert(0, pack.pop())
    return packs


def _size(pack: list[_Sentence]) -> int:
    return len(_text(pack))


def _text(pack: list[_Sentence]) -> str:
    return " ".join(sentence.text for sentence in pack)


def _boundary(pack: list[_Sentence], following: list[_Sentence]) -> Boundary:
    if not following[0].opens:
        return "sentence"
    both = (pack[0].paragraph, following[0].paragraph)
    return "heading" if any(paragraph.kind == "heading" for paragraph in both) else "paragraph"


def _chunk(index: int, pack: list[_Sentence], boundary: Boundary) -> Chunk:
    sentences = tuple(sentence.text for sentence in pack)
    paragraph = pack[0].paragraph
    kind: Literal["heading", "text"] = "heading" if paragraph.kind == "heading" else "text"
    return Chunk(index, _text(pack), sentences, boundary, kind, paragraph.level)
