"""Text from outside made harmless where a terminal, a log, Markdown or HTML is read."""

from __future__ import annotations

import html
import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-!|<>~$&]|(?<=[0-9])\.(?=\s|$))")  # 1. begins a list


def single_line(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal would obey: no line of a log can be forged.

    Characters that end lines, control, change direction or do not show become spaces.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def escape_markdown(text: str) -> str:
    """`text` as Markdown that renders as itself, on one line: no link, image, list, table or HTML.

    But for an address that stands in it: some readers let it be followed, to just where it says.
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def escape_html(text: str) -> str:
    """`text` for an HTML element or a quoted attribute."""
    return html.escape(text, quote=True)
