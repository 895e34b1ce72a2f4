"""Cutting a script's paragraphs into chunks, the texts of synthesis requests: whole sentences up to a limit.

- `packing` makes the chunks, by the rules in its docstring.
- `sentences` splits a paragraph into sentences, and `abbreviations` finds periods that end none.
- `clauses` cuts a sentence that is longer than a chunk.
- `punctuation` lists the marks of many scripts.
"""

from narration.chunking.packing import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MIN_LIMIT,
    SHORT,
    Boundary,
    Chunk,
    chunk_script,
)

__all__ = [
    "DEFAULT_LIMIT",
    "MAX_LIMIT",
    "MIN_LIMIT",
    "SHORT",
    "Boundary",
    "Chunk",
    "chunk_script",
]
