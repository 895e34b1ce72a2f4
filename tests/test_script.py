"""Scripts: which paragraphs are read from which bytes, and which bytes are refused how."""
# ruff: noqa: RUF001 - characters that resemble others are the point

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.scripts import CORPUS, nasty_text, plain, read_or_refuse, speakable, texts

from narration.errors import ScriptError
from narration.escaping import single_line
from narration.script import MAX_SCRIPT_BYTES, parse_script, read_script
from narration.script.paragraph import Paragraph


def refusal(data: bytes, name: str = "talk.txt") -> ScriptError:
    with pytest.raises(ScriptError) as caught:
        parse_script(data, name=name)
    return caught.value


# Bytes


@pytest.mark.parametrize(
    "data",
    [
        "Größe — “yes”.".encode(),
        b"\xef\xbb\xbf" + "Größe — “yes”.".encode(),
        b"\xff\xfe" + "Größe — “yes”.".encode("utf-16-le"),
        b"\xfe\xff" + "Größe — “yes”.".encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16 little-endian", "utf-16 big-endian"],
)
def test_a_script_is_read_in_utf_8_and_in_utf_16_with_a_byte_order_mark(data: bytes) -> None:
    """UTF-8 with or without a byte order mark and UTF-16 with one give the same words."""
    assert texts(parse_script(data, name="talk.txt")) == ["Größe — “yes”."]


def test_a_script_keeps_its_source_and_its_digest() -> None:
    """The source bytes are kept unchanged, and the digest is that of these bytes, not of the decoded text."""
    data = b"\xef\xbb\xbfOne.\r\n"
    script = parse_script(data, name="talk.txt")
    assert script.source == data
    assert script.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"Caf\xe9 first.", 3),
        (b"\xef\xbb\xbfCaf\xe9", 6),
        (b"Lone \xed\xa0\x80", 5),
        (b"\xff\xfeA\x00\x00\xd8B\x00", 4),
        (b"\xfe\xff\x00A\x00", 4),
    ],
    ids=["latin-1", "after a mark", "surrogate in utf-8", "surrogate in utf-16", "half a character"],
)
def test_undecodable_bytes_are_refused_at_their_offset_in_the_file(data: bytes, offset: int) -> None:
    """The message holds the file and the offset from its first byte, and the remedy what to do."""
    error = refusal(data)
    assert error.message.startswith("talk.txt: not UTF-")
    assert f"offset {offset} " in error.message
    assert error.remedy == "save the script as UTF-8"


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x08", "\x1b", "\x1c", "\x1f", "\x7f", "\x92"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_control_character_is_refused_with_its_line(character: str, newline: str) -> None:
    """The message holds the control character and the line that an editor shows for it."""
    error = refusal(f"One.{newline}Two.{newline}Th{character}ree.".encode())
    assert error.message.startswith("talk.txt: line 3 holds ")
    assert ("NUL" if character == "\x00" else f"U+{ord(character):04X}") in error.message
    assert error.remedy


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b" \n\t\r\n", "\u00a0\u2028\u3000\u2029".encode()])
def test_an_empty_script_is_refused(data: bytes) -> None:
    """No bytes, a lone byte order mark and mere whitespace are reported as an empty script."""
    assert refusal(data).message == "talk.txt: the script is empty"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("talk.txt", "... !? — “” ()\n\n***"),
        ("talk.txt", "\u200b\u200e"),
        ("talk.md", "---\ntitle: A title\n---\n"),
        ("talk.md", "```\nprint()\n```\n\n    indented\n"),
        ("talk.md", "![a picture](a.png) <!-- a note -->\n\n---\n"),
    ],
)
def test_a_script_with_nothing_speakable_is_refused(name: str, text: str) -> None:
    """A script needs more than punctuation, invisible characters and what Markdown leaves out."""
    assert refusal(text.encode(), name).message.startswith(f"{name}: holds nothing speakable")


def test_a_script_over_the_size_limit_is_refused_and_one_at_it_is_not() -> None:
    """A script of exactly 10 MB is read, and one byte more is refused with the limit."""
    filler = b"word " * (MAX_SCRIPT_BYTES // 5)
    assert len(parse_script(filler, name="talk.txt").source) == MAX_SCRIPT_BYTES
    assert "talk.txt: larger than 10 MB" in refusal(filler + b"!").message


def test_a_missing_file_a_folder_and_an_unreadable_path_are_refused_by_name(tmp_path: Path) -> None:
    """A file that cannot be read is a ScriptError with its path and a remedy."""
    for path in (tmp_path / "none.txt", tmp_path, tmp_path / ("x" * 5_000), tmp_path / "a\0b"):
        with pytest.raises(ScriptError) as caught:
            read_script(path)
        assert caught.value.message.startswith(single_line(f"{path}: "))
        assert caught.value.remedy


def test_the_suffix_decides_whether_a_script_is_markdown(tmp_path: Path) -> None:
    """`.md` and `.markdown` in any case are Markdown, others plain text; an argument overrules both."""
    for name, expected in {
        "a.md": "heading",
        "a.MARKDOWN": "heading",
        "a.txt": "paragraph",
        "a": "paragraph",
    }.items():
        (tmp_path / name).write_text("# One")
        assert read_script(tmp_path / name).paragraphs[0].kind == expected
    assert parse_script(b"# One", name="a.txt", markdown=True).paragraphs[0].kind == "heading"
    assert parse_script(b"# One", name="a.md", markdown=False).paragraphs[0].text == "# One"


# Plain text


def test_blank_lines_separate_paragraphs_and_newlines_join() -> None:
    """A line break is a space; a line of nothing visible ends the paragraph."""
    for newline in ("\n", "\r\n", "\r"):
        lines = ["One", "two.", "", "Three", "", "\u200b \t\u00a0", "", "four."]
        assert texts(plain(newline.join(lines))) == ["One two.", "Three", "four."]


def test_other_line_and_page_breaks_are_read_as_such() -> None:
    """NEL and U+2028 break lines; form feed, vertical tab and U+2029 break paragraphs."""
    assert texts(plain("a\x85b\u2028c\u2029d\fe\vf")) == ["a b c", "d", "e", "f"]


def test_plain_text_has_no_markup_and_no_title() -> None:
    """Nothing is left out of plain text, even if it looks like markup."""
    script = plain("---\ntitle: X\n---\n\n# One\n\n- <b>two</b> &amp; `three`")
    assert texts(script) == ["--- title: X ---", "# One", "- <b>two</b> &amp; `three`"]
    assert script.title is None
    assert {paragraph.kind for paragraph in script.paragraphs} == {"paragraph"}


def test_invisible_characters_are_left_out_and_those_that_shape_others_stay() -> None:
    """Byte order, direction and hyphenation marks go; joiners, variation selectors and flag tags stay."""
    assert texts(plain("ze\u200bro so\u00adft \ufeffmark \u202eord\u202cer \u2060w")) == [
        "zero soft mark order w"
    ]
    kept = "👩\u200d🚀 می\u200cخواهم ❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f"
    assert texts(plain(kept)) == [kept]


@given(nasty_text)
@settings(deadline=None)
def test_plain_text_keeps_every_speakable_character_in_order(text: str) -> None:
    """The paragraphs of any text hold its letters, marks, numbers and symbols, with tidy spaces."""
    assume(speakable(text))
    script = plain(text)
    assert speakable("".join(texts(script))) == speakable(text)
    assert all(t == " ".join(t.split()) for t in texts(script))


@given(st.one_of(st.binary(max_size=200), nasty_text.map(str.encode)), st.booleans())
@settings(deadline=None)
def test_any_bytes_are_a_script_or_a_refusal(data: bytes, as_markdown: bool) -> None:
    """Any bytes give tidy, speakable paragraphs or a ScriptError that names the file."""
    outcome = read_or_refuse(data, "talk", markdown=as_markdown)
    if isinstance(outcome, ScriptError):
        assert outcome.message.startswith("talk: ")
        assert outcome.remedy
        return
    assert outcome.paragraphs
    for paragraph in outcome.paragraphs:
        assert speakable(paragraph.text)
        assert paragraph.text == " ".join(paragraph.text.split())
        assert (paragraph.level > 0) == (paragraph.kind == "heading")


@pytest.mark.parametrize("path", sorted((CORPUS / "refused").iterdir()), ids=lambda path: path.name)
def test_every_script_in_the_refused_corpus_is_refused(path: Path) -> None:
    """The refusal of a bad script holds its name and a remedy, in one printable line."""
    with pytest.raises(ScriptError) as caught:
        read_script(path)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    assert str(caught.value).isprintable()


def test_the_example_is_a_real_explainer() -> None:
    """The example script has a title, three headings and about 900 words."""
    script = read_script(Path(__file__).parent.parent / "examples" / "explainer.md")
    assert script.title == "The Box That Shrank the World"
    assert [p.level for p in script.paragraphs if p.kind == "heading"] == [2, 2, 2]
    words = " ".join(texts(script)).split()
    assert 850 <= len(words) <= 1_000
    assert Paragraph("Any box fits any ship.", "item", 0) in script.paragraphs
