"""A script: bytes in plain text or Markdown, as the paragraphs to be spoken, in order.

`reading` is the way in; `markdown` has the table of what is spoken and what is left out, with
`footnotes`, `front_matter` and `html_text` for its corners; `paragraph` what both forms share.
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
