"""The front matter of a Markdown script: YAML between `---` lines, of which only the title is read."""

from __future__ import annotations

import re

from narration.script.paragraph import tidy

_KEY = re.compile(r"[\"']?[\w.-]+[\"']?\s*:")
_LINE = re.compile(rf"\s|#|-\s|{_KEY.pattern}|$")
_ENDS = {"---", "..."}


def split_front_matter(text: str) -> tuple[str, str | None]:
    """`text` with its front matter blanked, so that lines keep their numbers, and the title in it.

    Front matter starts on the first line with `---`, then a key; each line is a key, a list item,
    a comment, indented or empty; it ends with `---` or `...`. Anything else there is prose.
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
    elif value.startswith(
        ("|", ">", "#")
    ):  # a title over several lines, or none: the heading tells it better
        value = ""
    else:
        value = value.partition(" #")[0]
    return tidy(value) or None
