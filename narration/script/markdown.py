"""Reading a Markdown script into paragraphs: what is spoken and what is left out.

CommonMark with tables, strikethrough and task lists:

| in the script | in the narration |
|---|---|
| heading, `#` or underlined | a heading of its level |
| paragraph, also in a block quote | a paragraph |
| list item | an item for each of its paragraphs, without bullet or checkbox |
| number of a list item | left out while the list counts up from 0 or 1; else spoken: "1956." is prose |
| table | an item for each row, its cells joined by commas |
| emphasis, strikethrough, inline code | the text |
| link | its text; the address is left out unless it is the text |
| character entity, backslash escape | the character it stands for |
| line break | a space |
| image, with its description | left out: it is shown, not said |
| code block, fenced or indented | left out |
| HTML tag | left out; the text between tags is spoken |
| HTML comment, `script`, `style` | left out: comments are notes for the video's editor |
| footnote, its mark and its text | left out |
| link definition, thematic break | left out |
| front matter between `---` lines | left out; its `title` is the script's |

Markup that makes the parser drop text without a word is refused: a code fence, comment, `script` or
`style` that is never closed, a table row with more cells than the table's head, and nesting of
`_MAX_NESTING` levels.
"""

from __future__ import annotations

import html
import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from narration.errors import ScriptError
from narration.script.footnotes import leave_out_footnotes
from narration.script.front_matter import split_front_matter
from narration.script.html_text import NeverClosed, text_of_html
from narration.script.paragraph import Paragraph, is_speakable, tidy

_MAX_NESTING = 50  # levels, of which a list takes two; the parser drops text that is nested deeper
_CELL_BORDER = re.compile(r"(?<!\\)\|")


def parse_markdown(text: str, *, name: str) -> tuple[list[Paragraph], str | None]:
    r"""The paragraphs of `text` in order, and its title or None. Lines must end in `\n`.

    The title is that of the front matter, else the first level-1 heading. Raises `ScriptError`, with
    `name` and the line, for markup that would make the parser drop text.
    """
    text, title = split_front_matter(text)
    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING, "tasklists": True})
    parser.enable(["table", "strikethrough"])
    leave_out_footnotes(parser)
    reader = _Reader(name, text.split("\n"))
    for token in parser.parse(text):
        reader.read(token)
    first_level = (p.text for p in reader.paragraphs if p.kind == "heading" and p.level == 1)
    return reader.paragraphs, title or next(first_level, None)


class _Reader:
    """Collects the paragraphs from the parser's block tokens, read once in order."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.paragraphs: list[Paragraph] = []
        self._name = name
        self._lines = lines
        self._heading = 0  # level of the heading around this token, 0 outside headings
        self._items: list[int | None] = []  # the last number of each list around it; None once one was spoken
        self._number = ""  # the number of a list item, to be spoken before its first paragraph
        self._cells: list[str] | None = None  # of the table row around it
        self._columns = 0  # of the table around it
        self._readers = {
            "inline": self._read_inline,
            "html_block": self._read_html,
            "fence": self._read_fence,
            "heading_open": self._open_heading,
            "heading_close": self._close_heading,
            "bullet_list_open": self._open_list,
            "ordered_list_open": self._open_list,
            "bullet_list_close": self._close_list,
            "ordered_list_close": self._close_list,
            "list_item_open": self._open_item,
            "list_item_close": self._close_item,
            "thead_open": self._open_table,
            "th_open": self._open_column,
            "tr_open": self._open_row,
            "tr_close": self._close_row,
        }

    def read(self, token: Token) -> None:
        """Read the next token."""
        if token.level >= _MAX_NESTING - 1:
            raise self._refusal(token, "lists or quotes are nested too deeply", "flatten them")
        reader = self._readers.get(token.type)
        if reader is not None:
            reader(token)

    def _add(self, text: str, *, item: bool = False) -> None:
        text, self._number = tidy(self._number + text), ""
        if text and self._heading:
            self.paragraphs.append(Paragraph(text, "heading", self._heading))
        elif text:
            self.paragraphs.append(Paragraph(text, "item" if item or self._items else "paragraph", 0))

    def _read_inline(self, token: Token) -> None:
        children = token.children or []
        if any(child.type == "text" and "<!--" in child.content for child in children):
            raise self._refusal(token, "a comment does not close in its paragraph", "close it with -->")
        if any(child.type == "html_inline" for child in children):
            text = self._text_of_html("".join(map(_as_html, children)), token)
        else:
            text = "".join(map(_as_text, children))
        if self._cells is None:
            self._add(text)
        else:
            self._cells.append(tidy(text))

    def _read_html(self, token: Token) -> None:
        for block in re.split(r"\n\s*\n", self._text_of_html(token.content, token)):
            self._add(block)

    def _read_fence(self, token: Token) -> None:
        first, end = token.map or (0, 0)
        closing = rf"[>\s]*{re.escape(token.markup)}{re.escape(token.markup[0])}*\s*"
        if end - first == 1 or not re.fullmatch(closing, self._lines[end - 1]):
            remedy = f"close it with {token.markup} on a line of its own"
            raise self._refusal(token, "a code block is never closed", remedy)

    def _open_heading(self, token: Token) -> None:
        self._heading = int(token.tag.removeprefix("h"))

    def _close_heading(self, _: Token) -> None:
        self._heading = 0

    def _open_list(self, _: Token) -> None:
        self._items.append(0)

    def _close_list(self, _: Token) -> None:
        self._items.pop()

    def _open_item(self, token: Token) -> None:
        last = self._items[-1]
        if not token.info:
            return  # the item of a bulleted list
        number = int(token.info)
        counts = last is not None and number - last in {0, 1}
        self._items[-1] = number if counts else None
        self._number = "" if counts else f"{token.info}{token.markup} "

    def _close_item(self, _: Token) -> None:
        self._add("")  # an item may hold nothing but its number

    def _open_table(self, _: Token) -> None:
        self._columns = 0

    def _open_column(self, _: Token) -> None:
        self._columns += 1

    def _open_row(self, token: Token) -> None:
        first, _ = token.map or (0, 0)
        row = self._lines[first].lstrip("> \t").removeprefix("|")
        if self._columns and any(map(is_speakable, _CELL_BORDER.split(row)[self._columns :])):
            raise self._refusal(
                token, "a table row has more cells than the table's head", "add columns to it"
            )
        self._cells = []

    def _close_row(self, _: Token) -> None:
        cells, self._cells = self._cells or [], None
        self._add(", ".join(filter(is_speakable, cells)), item=True)

    def _text_of_html(self, source: str, token: Token) -> str:
        try:
            return text_of_html(source)
        except NeverClosed as error:
            raise self._refusal(token, f"{error} is never closed", "close it, or write &lt; for <") from None

    def _refusal(self, token: Token, reason: str, remedy: str) -> ScriptError:
        line, _ = token.map or (0, 0)
        return ScriptError(f"{self._name}: line {line + 1}: {reason}", remedy=remedy)


def _as_text(child: Token) -> str:
    """The text of an inline token that is not HTML; images and the marks of links and emphasis have none."""
    if child.type in {"text", "code_inline"}:
        return child.content
    return " " if child.type in {"softbreak", "hardbreak"} else ""


def _as_html(child: Token) -> str:
    return child.content if child.type == "html_inline" else html.escape(_as_text(child))
