"""Escaping of text from outside for terminals, logs and Markdown."""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-!|<>~$&]|(?<=[0-9])\.(?=\s|$))")  # "1." would begin a list


def single_line(text: str) -> str:
    """`text` as one printable line, which cannot forge a line of a log or control a terminal.

    Line breaks, controls, direction marks and other unprintable characters become spaces.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def escape_markdown(text: str) -> str:
    """`text` as one line of Markdown that is shown as it is: no link, image, list, table or HTML.

    Some viewers still turn a URL in the text into a link to that URL.
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
