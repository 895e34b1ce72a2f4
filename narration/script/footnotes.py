"""Footnotes in a Markdown script, which are read and not heard: marks and texts are left out."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

_MARK = re.compile(r"\[\^[^\[\]\s]+\](?!\()")
_TEXT = re.compile(r"\[\^[^\[\]\s]+\]:")


def leave_out_footnotes(parser: MarkdownIt) -> None:
    """Teach `parser` to pass over `[^mark]` in a text and the paragraph `[^mark]: text`."""
    # Before the rules that would take a mark for a link and a footnote's text for a link's address.
    parser.inline.ruler.before("link", "footnote_mark", _mark)
    parser.block.ruler.before("reference", "footnote_text", _text, {"alt": ["paragraph"]})


def _mark(state: StateInline, silent: bool) -> bool:  # noqa: ARG001 - the parser's signature
    found = _MARK.match(state.src, state.pos, state.posMax)
    if found:
        state.pos = found.end()
    return found is not None


def _text(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    begin = state.bMarks[first] + state.tShift[first]
    if state.is_code_block(first) or not _TEXT.match(state.src, begin, state.eMarks[first]):
        return False
    if silent:
        return True
    others = state.md.block.ruler.getRules("paragraph")
    line = first + 1
    while line < end and not state.isEmpty(line) and not any(rule(state, line, end, True) for rule in others):
        line += 1
    state.line = line
    return True
