"""Reading the title from the front matter of a Markdown script, and leaving the front matter out.

Front matter looks like YAML, but people write titles into it that YAML refuses or reads otherwise
(`title: How: it works`, `title: *Why* me?`), so its lines are read as text.
"""

from __future__ import annotations

import re

from narration.script.paragraph import tidy

_KEY = re.compile(r"[\"']?[\w.-]+[\"']?\s*:")
_LINE = re.compile(rf"\s|#|-\s|{_KEY.pattern}|$")
_ENDS = {"---", "..."}


def split_front_matter(text: str) -> tuple[str, str | None]:
    """`text` with empty lines in place of its front matter, and the title in it or None.

    Lines keep their numbers. Front matter starts with `---` on the first line and a key on the second;
    each of its lines is a key, a list item, a comment, indented or empty; `---` or `...` ends it.
    Without all of that there is no front matter, and the lines are prose.
    """
    lines = text.split("\n")
    if lines[0].rstrip() != "---" or len(lines) == 1 or not _KEY.match(lines[1]):
        return text, None
    for end, line in enumerate(lines[1:], start=1):
        if line.rstrip() in _ENDS:
            return "\n" * (end + 1) + "\n".join(lines[end + 1 :]), _title(lines[1:end])
        if not _LINE.match(line):
            break
    return text, None


def _title(lines: list[str]) -> str | None:
    keys = (line.partition(":") for line in lines)
    value = next((value.strip() for key, _, value in keys if key.strip(" \t\"'") == "title"), "")
    quote = value[:1]
    if len(value) > 1 and quote == value[-1] and quote in "\"'":
        value = value[1:-1].replace("''" if quote == "'" else '\\"', quote)
    elif value.startswith(("|", ">", "#")):  # a title over several lines, or none: a heading is the title
        value = ""
    else:
        value = value.partition(" #")[0]
    return tidy(value) or None
