"""Reading a script, plain text or Markdown, into the paragraphs to be spoken.

- `reader` decodes the bytes, reads plain text, and calls `markdown` for the rest.
- `markdown` decides what of a Markdown script is spoken; its table lists every kind of markup.
- `footnotes`, `front_matter` and `html_text` handle those three parts of a Markdown script.
- `paragraph` defines a paragraph and which of its characters are speakable.
"""

from narration.script.paragraph import Paragraph
from narration.script.reader import (
    MARKDOWN_SUFFIXES,
    MAX_SCRIPT_BYTES,
    Script,
    parse_script,
    read_script,
    script_suffix,
)

__all__ = [
    "MARKDOWN_SUFFIXES",
    "MAX_SCRIPT_BYTES",
    "Paragraph",
    "Script",
    "parse_script",
    "read_script",
    "script_suffix",
]
