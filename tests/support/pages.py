"""Reads the project's pages: their code blocks, code spans, links, headings, tables and shell commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_ROW = re.compile(r"^ *\|(.+)\|$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text, without the indentation of a list around it."""

    language: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page by its path in the project, such as `docs/scripts.md`."""

    name: str

    @property
    def path(self) -> Path:
        """Where the page is on disk."""
        return ROOT / self.name

    @property
    def text(self) -> str:
        """The whole page."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """The texts of the fenced blocks in that language."""
        return [block.text for block in self.all_blocks() if block.language == language]

    def all_blocks(self) -> list[Block]:
        """The fenced blocks, in order."""
        found = _FENCE.findall(self.text)
        return [Block(language, _unindented(text, len(indent))) for indent, language, text in found]

    def spans(self) -> list[str]:
        """The code spans outside fenced blocks."""
        return [span.strip() for _, span in _SPAN.findall(self.prose)]

    def links(self) -> list[str]:
        """The targets of the links, but for those to other sites."""
        prose = _SPAN.sub("", self.prose)
        return [target for target in _LINK.findall(prose) if not re.match(r"\w+:", target)]

    def anchors(self) -> set[str]:
        """The anchors of the headings, as GitHub makes them."""
        headings = (heading.lower() for heading in _HEADING.findall(self.prose))
        return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}

    def section(self, heading: str) -> str:
        """The text below a heading of the second level."""
        return self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]

    def commands(self) -> list[list[str]]:
        """The words of each command in a fenced block of shell commands."""
        return [words for block in self.blocks("sh") for words in commands_in(block)]

    def spoken_commands(self, *programs: str) -> list[list[str]]:
        """The words of each code span that is a command of one of `programs`, with arguments."""
        spans = (span for span in self.spans() if span.startswith(tuple(f"{each} " for each in programs)))
        return [shlex.split(span) for span in spans]


PAGES = [
    Page(path.relative_to(ROOT).as_posix())
    for folder in ("", "docs", "gpu_worker", "benchmarks")
    for path in sorted((ROOT / folder).glob("*.md"))
]
"""Every page of the project."""


def commands_in(block: str) -> Iterator[list[str]]:
    """The words of each command in a block of shell commands, without comments."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def rows(section: str) -> list[list[str]]:
    """The cells of each row of the tables in `section`, without heads and rules."""
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in _ROW.findall(section)]
    rules = [number for number, cells in enumerate(lines) if set("".join(cells)) <= set("-:")]
    return [cells for number, cells in enumerate(lines) if number not in rules and number + 1 not in rules]


def _unindented(text: str, indent: int) -> str:
    return "".join(line[indent:] if line.strip() else line for line in text.splitlines(keepends=True))
