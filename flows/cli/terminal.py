"""Writing to the terminal: messages on stderr, results on stdout, nothing that could control it.

Styles and fitted tables appear only on a terminal; a pipe or a file gets plain lines.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from narration.escaping import single_line

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2  # spaces between the columns of a table
LAST_COLUMN = 68  # characters of a table's last column, where no terminal has a width


def say(text: str, *, style: str = "") -> None:
    """Write a message for the person to stderr; stdout is for results."""
    _write(text, sys.stderr, style)


def result(text: str, *, style: str = "", hanging: int | None = None) -> None:
    """Write lines of the result to stdout.

    With `hanging`, lines longer than a terminal is wide are broken between words, and go on after that
    many spaces.
    """
    if hanging is not None and is_live(sys.stdout):
        width = shutil.get_terminal_size().columns
        text = "\n".join(_wrap(line, width, hanging) for line in text.split("\n"))
    _write(text, sys.stdout, style)


def result_json(value: object) -> None:
    r"""Write the result to stdout as one JSON object.

    Characters that control a terminal, or that stdout's encoding lacks, are written as `\uXXXX`.
    """
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not unicode)
    text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    result(text)


def result_table(
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """Write a table to stdout; the first of `rows` is its heading, `styles` are the rows' on a terminal.

    The last column is cut with an ellipsis: on a terminal where the table reaches the terminal's width,
    elsewhere after `LAST_COLUMN` characters. `right` names the columns that align to the right.
    """
    if not is_live(sys.stdout):
        result(table([(*row[:-1], _cut(row[-1])) for row in rows], right=right))
        return
    from rich.table import Table  # noqa: PLC0415  # only on a terminal: a plan in a pipe does without
    from rich.text import Text  # noqa: PLC0415  # as above

    terminal = console(sys.stdout)
    fitted = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    room = terminal.width - sum(widths) - GAP * len(widths)
    for column, (heading, width) in enumerate(zip(rows[0], [*widths, room], strict=True)):
        fitted.add_column(
            Text(single_line(heading)),
            justify="right" if column in right else "left",
            width=max(width, 1),
            no_wrap=True,
        )
    for row, style in zip(rows[1:], styles or [""] * len(rows), strict=False):
        fitted.add_row(*(Text(single_line(cell)) for cell in row), style=style)
    terminal.print(fitted)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """`rows` in aligned columns, a line each; `right` names the columns that align to the right."""
    rows = [[single_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * GAP).join(cells).rstrip())
    return "\n".join(lines)


def _wrap(line: str, width: int, hanging: int) -> str:
    if " " not in line[hanging:]:  # a path that is wider than the terminal stays one word
        return line
    return textwrap.fill(
        line, width, subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False
    )


def _cut(text: str) -> str:
    return text if len(text) <= LAST_COLUMN else text[: LAST_COLUMN - 1] + "…"


def is_live(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> Console:
    """Rich's console on `stream`; it obeys NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415  # only on a terminal

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def replace_unencodable() -> None:
    """Write `?` for a character that stdout's or stderr's encoding lacks, such as Windows' cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def discard_output() -> None:
    """Write what stdout still holds to nowhere: its reader has ended, as `head` does after ten lines."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(text: str, stream: TextIO, style: str) -> None:
    harmless = "\n".join(map(single_line, text.split("\n")))
    if style and is_live(stream):
        console(stream).print(harmless, style=style, soft_wrap=True)
    else:
        print(harmless, file=stream, flush=True)
