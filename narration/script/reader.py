"""Reading a script's bytes into paragraphs.

In plain text blank lines separate paragraphs, single newlines do not, and nothing is markup.
`narration.script.markdown` reads Markdown. In both, invisible characters are left out
(`narration.script.paragraph`), and a script with control characters is refused.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from narration.errors import ScriptError
from narration.script.markdown import parse_markdown
from narration.script.paragraph import Paragraph, is_speakable, tidy

MAX_SCRIPT_BYTES = 10_000_000  # over a week of speech: a larger file was named by mistake
MARKDOWN_SUFFIXES = {".md", ".markdown"}

_SAVE_AS_UTF8 = "save the script as UTF-8"
_LINE_BREAK = re.compile("\r\n?|[\x85\u2028]")
_PAGE_BREAK = re.compile("[\v\f\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its speakable paragraphs, at least one, and the `source` bytes they were read from.

    `title` is that of the front matter, else the first level-1 heading, else None. `sha256` is the
    digest of `source` in 64 hex digits.
    """

    paragraphs: tuple[Paragraph, ...]
    title: str | None
    sha256: str
    source: bytes


def read_script(path: Path) -> Script:
    """Read the script at `path`; Markdown if its name ends in .md or .markdown, else plain text.

    Raises `ScriptError`, naming `path`, if the file cannot be read or `parse_script` refuses it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SCRIPT_BYTES + 1)
    except FileNotFoundError:
        raise ScriptError(f"{path}: no such file", remedy="check the path") from None
    except IsADirectoryError:
        raise ScriptError(f"{path}: is a folder", remedy="name the script in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ScriptError(f"{path}: cannot be read: {reason}", remedy="check path and permissions") from None
    return parse_script(data, name=str(path))


def parse_script(data: bytes, *, name: str, markdown: bool | None = None) -> Script:
    """Read `data` as a script; errors call it `name`.

    `markdown` says whether it is Markdown; by default the suffix of `name` does. The bytes are UTF-8
    with or without byte order mark, or UTF-16 with one. Raises `ScriptError` for more than
    `MAX_SCRIPT_BYTES`, undecodable bytes (with their offset), control characters (with their
    line), markup that would make the parser drop text, and a script with nothing speakable.
    """
    if len(data) > MAX_SCRIPT_BYTES:
        raise ScriptError(
            f"{name}: larger than {MAX_SCRIPT_BYTES // 1_000_000} MB, the most a script may hold",
            remedy="narrate it in parts",
        )
    text = _LINE_BREAK.sub("\n", _decode(data, name))
    _refuse_controls(text, name)
    text = _PAGE_BREAK.sub("\n\n", text)
    if not text.strip():
        raise ScriptError(f"{name}: the script is empty", remedy="write the words to be spoken into it")
    if markdown is None:
        markdown = PurePath(name).suffix.lower() in MARKDOWN_SUFFIXES
    title: str | None = None
    if markdown:
        paragraphs, title = parse_markdown(text, name=name)
    else:
        paragraphs = [Paragraph(tidy(block), "paragraph", 0) for block in _BLANK_LINES.split(text)]
    spoken = tuple(paragraph for paragraph in paragraphs if is_speakable(paragraph.text))
    if not spoken:
        left_out = "code, comments and pictures are left out" if markdown else "there are no words in it"
        raise ScriptError(
            f"{name}: holds nothing speakable: {left_out}", remedy="write the words to be spoken into it"
        )
    return Script(spoken, title, hashlib.sha256(data).hexdigest(), data)


def script_suffix(name: str) -> str:
    """`.md` for a name whose content is read as Markdown, `.txt` for every other."""
    return ".md" if PurePath(name).suffix.lower() in MARKDOWN_SUFFIXES else ".txt"


def _decode(data: bytes, name: str) -> str:
    """`data` as text, in the encoding of its byte order mark, else UTF-8."""
    encoding, mark = "UTF-8", b""
    for candidate, bom in (
        ("UTF-8", codecs.BOM_UTF8),
        ("UTF-16-LE", codecs.BOM_UTF16_LE),
        ("UTF-16-BE", codecs.BOM_UTF16_BE),
    ):
        if data.startswith(bom):
            encoding, mark = candidate, bom
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(mark) + error.start
        raise ScriptError(
            f"{name}: not {encoding}: the byte 0x{data[offset]:02x} at offset {offset} begins no character",
            remedy=_SAVE_AS_UTF8,
        ) from None


def _refuse_controls(text: str, name: str) -> None:
    """Raise `ScriptError` if `text` holds a control character that is not whitespace."""
    control = _CONTROL.search(text)
    if control is None:
        return
    line = text.count("\n", 0, control.start()) + 1
    code = ord(control.group())
    character = "a NUL character" if code == 0 else f"the control character U+{code:04X}"
    remedy = _SAVE_AS_UTF8 if code == 0 or code >= 0x80 else "delete it"
    raise ScriptError(f"{name}: line {line} holds {character}", remedy=remedy)
