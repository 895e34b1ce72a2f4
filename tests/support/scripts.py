"""Scripts for tests: read from text in a test, the corpus, and text that is hard to split and to parse."""
# ruff: noqa: RUF001 - characters that resemble others are the point

from __future__ import annotations

import unicodedata
from pathlib import Path

from hypothesis import strategies as st

from narration.errors import ScriptError
from narration.script import Script, parse_script
from narration.script.paragraph import Paragraph

CORPUS = Path(__file__).parents[1] / "corpus"
PYSBD_SENTINELS = "∯∮♨☝♬♭☉☇☈☄ȸȹƪ♟♝☏✂⌬⎋ᓰᓱᓳᓴᓷᓸ&"
"""Characters that pysbd uses as internal marks, and so changes or drops where a text holds them."""


def speakable(text: str) -> str:
    """The letters, marks, numbers and symbols of `text`, in order."""
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMNS")


def plain(text: str) -> Script:
    """`text` read as a plain text script."""
    return parse_script(text.encode(), name="script.txt")


def markdown(text: str) -> Script:
    """`text` read as a Markdown script."""
    return parse_script(text.encode(), name="script.md")


def texts(script: Script) -> list[str]:
    """The paragraphs' texts."""
    return [paragraph.text for paragraph in script.paragraphs]


def read_or_refuse(data: bytes, name: str, *, markdown: bool | None = None) -> Script | ScriptError:
    """The script in `data`, or the error that refuses it."""
    try:
        return parse_script(data, name=name, markdown=markdown)
    except ScriptError as error:
        return error


def script_of(*texts: str) -> Script:
    """A script of paragraphs with exactly these texts, which no parser has tidied."""
    return Script(tuple(Paragraph(text, "paragraph", 0) for text in texts), None, "0" * 64, b"")


_WORDS = """
    a The It I is no me Dr. Mr. U.S. p.m. Ph.D. St. No. Vol. i.e. e.g. etc. 3.14 1. 2) (b) $5.83 1956. Hello
    ... … — – -- , ; : . ! ? ?! !!! " ' “ ” ‘ ’ ( ) [ ] « » 。 ？ 你好。 مرحبا؟ नमस्ते। é ñ é 🇩🇪 👋🏽 ❤️
    <|eot_id|> http://example.com/a?b=c .[1,2 \\ & *a* _b_ `c` # - > | ~~ <b> </b> <!-- --> ``` --- === [^1]
    [x](y) \u200d \u200b \ufeff \u202e
"""
_characters = st.one_of(st.characters(exclude_categories=["Cs", "Cc"]), st.sampled_from(PYSBD_SENTINELS))
_spaces = st.sampled_from(["", " ", " ", " ", "  ", "\n", "\n\n", "\t", "\u00a0"])

nasty_text = st.lists(
    st.tuples(st.one_of(st.sampled_from(_WORDS.split()), st.text(_characters, max_size=8)), _spaces).map(
        "".join
    ),
    max_size=120,
).map("".join)
"""Text of any Unicode characters but controls, with many that splitters and parsers treat specially."""
