"""The words in a piece of HTML, as Markdown scripts hold it."""

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
"""Names of tags that stand within a sentence; every other tag separates what is around it."""


class NeverClosed(ValueError):
    """A comment, `script` or `style` that would swallow what follows; its only argument is how it opens."""


def text_of_html(source: str) -> str:
    """`source` without tags, comments, scripts and styles, its entities decoded.

    Where a tag or comment separated two paragraphs, a blank line does. Raises `NeverClosed`.
    """
    return html.unescape(_TAG.sub(_gap, _HIDDEN.sub(_nothing, source)))


def _nothing(hidden: re.Match[str]) -> str:
    if not (hidden["closing"] or hidden["end"]):
        raise NeverClosed(hidden["opening"] or hidden["start"])
    return ""


def _gap(tag: re.Match[str]) -> str:
    return "" if _PHRASING.fullmatch(tag.group(1) or "") else "\n\n"
