"""A script's paragraphs as the chunks that are sent: whole sentences up to a limit.

`packing` is the way in and has the rules; `sentences` finds where sentences begin, `clauses`
cuts those over the limit, `punctuation` knows the marks of many scripts.
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
