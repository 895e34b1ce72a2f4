"""Leaving out the footnotes of a Markdown script: their marks and their texts.

The footnote plugin of mdit-py-plugins is not used: it gives the texts as paragraphs, and where lists
or links stand in or beside a footnote it drops and keeps other words than these rules.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

_MARK = re.compile(r"\[\^[^\[\]\s]+\](?!\()")
_TEXT = re.compile(r"\[\^[^\[\]\s]+\]:")


def leave_out_footnotes(parser: MarkdownIt) -> None:
    """Add rules to `parser` that skip `[^mark]` in a text and the paragraph `[^mark]: text`."""
    # Before the rules for links and their definitions, which a mark and a footnote's text look like.
    parser.inline.ruler.before("link", "footnote_mark", _skip_mark)
    parser.block.ruler.before("reference", "footnote_text", _skip_text, {"alt": ["paragraph"]})


def _skip_mark(state: StateInline, silent: bool) -> bool:  # noqa: ARG001 - the parser's signature
    mark = _MARK.match(state.src, state.pos, state.posMax)
    if mark:
        state.pos = mark.end()
    return mark is not None


def _skip_text(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    begin = state.bMarks[first] + state.tShift[first]
    if state.is_code_block(first) or not _TEXT.match(state.src, begin, state.eMarks[first]):
        return False
    if silent:
        return True
    interrupting = state.md.block.ruler.getRules("paragraph")
    line = first + 1
    while (
        line < end
        and not state.isEmpty(line)
        and not any(rule(state, line, end, True) for rule in interrupting)
    ):
        line += 1
    state.line = line
    return True
