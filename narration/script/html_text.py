"""The text in a piece of HTML, as it stands in Markdown scripts."""

from __future__ import annotations

import html
import re

_HIDDEN = re.compile(
    r"(?P<opening><!--).*?(?P<closing>-->|\Z)|(?P<start><(?P<tag>script|style)\b).*?(?P<end></(?P=tag)\s*>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"</?([a-z][a-z0-9-]*)[^<>]*>|<[!?][^<>]*>", re.IGNORECASE)

_PHRASING = re.compile(
    r"a|abbr|b|bd[io]|big|cite|code|data|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike"
    r"|strong|su[bp]|time|tt|u|var|wbr",
    re.IGNORECASE,
)
"""Tags that stand within a sentence; every other tag separates the text before it from that after it."""


class NeverClosed(ValueError):
    """A comment, `script` or `style` that is never closed; its only argument is the text that opens it."""


def text_of_html(source: str) -> str:
    """`source` without tags, comments, scripts and styles, and with its entities decoded.

    A blank line stands where a tag separated two paragraphs. Raises `NeverClosed`.
    """
    return html.unescape(_TAG.sub(_separator, _HIDDEN.sub(_without_hidden, source)))


def _without_hidden(hidden: re.Match[str]) -> str:
    if not (hidden["closing"] or hidden["end"]):
        raise NeverClosed(hidden["opening"] or hidden["start"])
    return ""


def _separator(tag: re.Match[str]) -> str:
    return "" if _PHRASING.fullmatch(tag.group(1) or "") else "\n\n"
