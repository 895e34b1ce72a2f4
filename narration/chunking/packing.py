"""Chunks: what is sent to the voice at once, cut from a script so that speech reads naturally.

A chunk is whole sentences of one section, up to a limit. The rules:

- A heading is a chunk of its own, so no chunk crosses one.
- A heading, item or paragraph that ends without a mark at which the voice falls gets a period.
- The limit is for text that is said as quickly as a European language is written: where that takes
  two or three times as long (ideographs, columns of digits), it is a half or a third of it.
- Sentences fill a chunk up to the limit, and start anew with each group of paragraphs, so an edit
  touches no chunk outside its group. A paragraph is a group, but for two rules against chunks too
  short to be spoken well: what is shorter than `SHORT` joins what follows it in its section, the
  last what precedes it; and a list's items shorter than `SHORT` are one group.
- A chunk shorter than `SHORT` borrows the last sentences of the chunk before it in its group.
- A sentence over the limit is cut at the sentences quoted in it, then as `narration.chunking.clauses` does.
- What holds no letter, mark, number or symbol is left out, unless it stands in a sentence.

Everything else of the script's paragraphs is in the chunks, once and in order.
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

DEFAULT_LIMIT = 500  # characters, about half a minute of speech
MIN_LIMIT = 20
MAX_LIMIT = 2_000  # what the contract's prompt holds
SLOW_PACE = 0.09  # s a character, beyond which a text may not fill the limit: 45 s in 500 characters
SHORT = 40  # characters, under three seconds of speech; a quarter of the limit if that is less

Boundary = Literal["sentence", "paragraph", "heading", "end"]
"""What lies between a chunk and the next: "heading" if either is a heading, else "paragraph" where a
paragraph or item begins, else "sentence" (also inside a sentence or heading cut in parts)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request's text: `sentences` joined by single spaces. `index` counts from 1.

    `boundary` is what follows the chunk, "end" after the last; `level` is 1-6 for a heading, else 0.
    """

    index: int
    text: str
    sentences: tuple[str, ...]
    boundary: Boundary
    kind: Literal["heading", "text"]
    level: int


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A sentence, or part of one, as it will be spoken; `opens` its paragraph if it is the first in it."""

    text: str
    opens: bool
    paragraph: Paragraph


def chunk_script(script: Script, *, limit: int = DEFAULT_LIMIT) -> tuple[Chunk, ...]:
    """Cut `script` into chunks of at most `limit` characters; the same script gives the same chunks.

    Raises `SettingsError` for a limit outside `MIN_LIMIT` to `MAX_LIMIT`.
    """
    if not MIN_LIMIT <= limit <= MAX_LIMIT:
        raise SettingsError(
            f"a chunk limit of {limit} characters", remedy=f"give one from {MIN_LIMIT} to {MAX_LIMIT}"
        )
    short = min(SHORT, limit // 4)
    packs = [
        pack
        for group in _groups(_finished(script.paragraphs), short)
        for pack in _group_packs(group, limit, short)
    ]
    boundaries: list[Boundary] = [*(_boundary(*pair) for pair in pairwise(packs)), "end"]
    return tuple(_chunk(number, pack, boundaries[number - 1]) for number, pack in enumerate(packs, start=1))


def _finished(paragraphs: Iterable[Paragraph]) -> Iterator[Paragraph]:
    """The speakable `paragraphs`, each ending in punctuation."""
    for paragraph in paragraphs:
        text = tidy(paragraph.text)
        if is_speakable(text):
            yield replace(paragraph, text=text if ends_in_a_pause(text) else f"{text}.")


def _groups(paragraphs: Iterable[Paragraph], short: int) -> list[list[Paragraph]]:
    """Neighbouring paragraphs whose sentences may share a chunk."""
    groups: list[list[Paragraph]] = []
    for paragraph in paragraphs:
        if groups and _joins(groups[-1], paragraph, short):
            groups[-1].append(paragraph)
        else:
            groups.append([paragraph])
    joined: list[list[Paragraph]] = []
    for group in groups:
        # Only a section's last group can still be short.
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
    """`limit` or a whole fraction of it, in steps so wide that an edit hardly ever changes the step."""
    seconds = sum(expected_seconds(paragraph.text) for paragraph in group)
    pace = seconds / max(_length(group), limit)
    times = ceil(min(pace / SLOW_PACE, pace * limit / SLOW_PACE / DEFAULT_LIMIT))
    return max(limit // max(times, 1), MIN_LIMIT)


def _sentences(group: Iterable[Paragraph], limit: int, short: int) -> Iterator[_Sentence]:
    """Sentences of the paragraphs in `group`, none over `limit` characters."""
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
    """`sentences` as the chunks of their group."""
    packs: list[list[_Sentence]] = []
    size = limit
    for sentence in sentences:
        if size + 1 + len(sentence.text) > limit:
            packs.append([])
            size = -1
        packs[-1].append(sentence)
        size += 1 + len(sentence.text)
    for lender, borrower in pairwise(packs):
        # What is lent fits: it is shorter than the limit by what the lender keeps.
        while _size(borrower) < short <= _size(lender[:-1]):
            borrower.insert(0, lender.pop())
    return packs


def _size(pack: list[_Sentence]) -> int:
    return len(_text(pack))


def _text(pack: list[_Sentence]) -> str:
    return " ".join(sentence.text for sentence in pack)


def _boundary(pack: list[_Sentence], following: list[_Sentence]) -> Boundary:
    if not following[0].opens:
        return "sentence"
    either = (pack[0].paragraph, following[0].paragraph)
    return "heading" if any(paragraph.kind == "heading" for paragraph in either) else "paragraph"


def _chunk(index: int, pack: list[_Sentence], boundary: Boundary) -> Chunk:
    sentences = tuple(sentence.text for sentence in pack)
    paragraph = pack[0].paragraph
    kind: Literal["heading", "text"] = "heading" if paragraph.kind == "heading" else "text"
    return Chunk(index, _text(pack), sentences, boundary, kind, paragraph.level)
