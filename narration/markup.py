"""Text from outside made harmless where Markdown or HTML is read."""

from __future__ import annotations

import html
import re

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-!|<>~$&])")


def plain(text: str) -> str:
    """`text` as Markdown that renders as itself, on one line: no link, image, table or HTML comes of it."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def html_text(text: str) -> str:
    """`text` for an HTML element or a quoted attribute."""
    return html.escape(text, quote=True)
