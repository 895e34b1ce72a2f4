"""Escaping of text from outside for terminals, logs and Markdown."""

from __future__ import annotations

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
