"""Markdown scripts: which text is spoken, which is left out, and which markup is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripts import markdown, read_or_refuse, texts

from narration.errors import ScriptError

H, P, L = "heading", "paragraph", "item"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# One\n## Two ##\n###### Six", [(H, 1, "One"), (H, 2, "Two"), (H, 6, "Six")]),
        ("One\n===\nTwo\n---", [(H, 1, "One"), (H, 2, "Two")]),
        ("One\ntwo\\\nthree  \nfour\n\nFive", [(P, 0, "One two three four"), (P, 0, "Five")]),
        ("> One\n> two\n>\n> > Three", [(P, 0, "One two"), (P, 0, "Three")]),
        (
            "- One\n  - Two\n\n    Three\n- Four",
            [(L, 0, "One"), (L, 0, "Two"), (L, 0, "Three"), (L, 0, "Four")],
        ),
        ("* [x] Done\n* [ ] Open", [(L, 0, "Done"), (L, 0, "Open")]),
        ("1. One\n2. Two\n3. Three", [(L, 0, "One"), (L, 0, "Two"), (L, 0, "Three")]),
        ("0. One\n1. Two", [(L, 0, "One"), (L, 0, "Two")]),
        ("1. One\n1. Two", [(L, 0, "One"), (L, 0, "Two")]),
        ("1956. Newark.\n1957. Later.", [(L, 0, "1956. Newark."), (L, 0, "1957. Later.")]),
        ("3) Three\n2) Two", [(L, 0, "3) Three"), (L, 0, "2) Two")]),
        ("1. One\n\n1956. Newark.", [(L, 0, "One"), (L, 0, "1956. Newark.")]),
        ("Then came\n\n1956.\n\nAnd", [(P, 0, "Then came"), (L, 0, "1956."), (P, 0, "And")]),
        (
            "| a | b |\n|:--|--:|\n| 1 | **2** |\n| 3 |\n| | x \\| y |",
            [(L, 0, "a, b"), (L, 0, "1, 2"), (L, 0, "3"), (L, 0, "x | y")],
        ),
        ("*a* **b** ***c*** _d_ ~~e~~ `f  *g*`", [(P, 0, "a b c d e f *g*")]),
        (
            'See [the *site*](http://x.y/z "t"), [it][r] or <http://a.b>.\n\n[r]: http://c.d',
            [(P, 0, "See the site, it or http://a.b.")],
        ),
        ("&lt;b&gt; &amp; &eacute; &#x41; &nbsp; \\*x\\* AT&T", [(P, 0, "<b> & é A *x* AT&T")]),
        ("One ![alt text](a.png) two [![b](c)](d)", [(P, 0, "One two")]),
        ("One\n\n```py\ncode\n```\n~~~\nmore\n~~~\n\n    indented\n\nTwo", [(P, 0, "One"), (P, 0, "Two")]),
        ("> ```\n> code\n> ```\n\n- ~~~~\n  more\n  ~~~~~\n- x", [(L, 0, "x")]),
        ("a<b>b</b>c<br>d <span title='e'>f</span>", [(P, 0, "abc d f")]),
        (
            "<div>\nOne <b>t</b>wo &amp; three<p>Four</p><p>Five\n\n*Six*\n</div>",
            [(P, 0, "One two & three"), (P, 0, "Four"), (P, 0, "Five"), (P, 0, "Six")],
        ),
        ("One <!-- two --> three\n\n<!--\nfour\n\nfive\n-->\nsix", [(P, 0, "One three"), (P, 0, "six")]),
        ("<script>\na\n\nb\n</script>\n<STYLE>c</STYLE>\n\nOne <script>x</script>", [(P, 0, "One")]),
        (
            "One[^1] two.[^note]\n\n[^1]: A note\ngoes on.\n[^note]: http://x.y\n\nThree",
            [(P, 0, "One two."), (P, 0, "Three")],
        ),
        ("One[^1]\n[^1]: note\n\nSee [^here](http://x.y).", [(P, 0, "One"), (P, 0, "See ^here.")]),
        ("One\n\n***\n\n- - -\n\nTwo", [(P, 0, "One"), (P, 0, "Two")]),
        ("<|eot_id|> 1 < 2 > 0 a<|b|>c", [(P, 0, "<|eot_id|> 1 < 2 > 0 a<|b|>c")]),
    ],
)
def test_markdown_is_spoken_by_its_rules(source: str, expected: list[tuple[str, int, str]]) -> None:
    """Each kind of markup is spoken or left out as the table in `narration.script.markdown` says."""
    for newline in ("\n", "\r\n"):
        paragraphs = markdown(source.replace("\n", newline)).paragraphs
        assert [(p.kind, p.level, p.text) for p in paragraphs] == expected


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("---\ntitle: How it works\nauthor: me\n---\n# Other\n", "How it works"),
        ("---\nauthor: me\n# a comment\ntitle: 'It''s # one' \n---\nText", "It's # one"),
        ('---\r\n"title": "Quoted: \\"twice\\""\r\n...\r\nText', 'Quoted: "twice"'),
        ("---\ntitle: Plain # a comment\ntags:\n  - title: no\n- x\n\n---\nText", "Plain"),
        ("---\ntitle: >\n  folded\n---\n# Heading\n", "Heading"),
        ("---\ntitle:\n---\n# Heading\n", "Heading"),
        ("## Two\n\n# *One* `x`\n\n# Later\n", "One x"),
        ("## Two\n\nText", None),
        ("Text", None),
    ],
)
def test_the_title_is_that_of_the_front_matter_or_the_first_level_1_heading(
    source: str, title: str | None
) -> None:
    """A title in the front matter comes before the first level-1 heading; without either there is none."""
    assert markdown(source).title == title


def test_front_matter_is_not_spoken_and_prose_between_dashes_is() -> None:
    """Only keys and values at the very top are front matter; prose between dashes is spoken."""
    assert texts(markdown("---\ntitle: X\ndate: 2024-01-01\n---\nText")) == ["Text"]
    assert texts(markdown("---\n\n# One\n\n---\nTwo")) == ["One", "Two"]
    assert texts(markdown("---\nHello there, friend\n\n---\nText")) == ["Hello there, friend", "Text"]
    assert texts(markdown("---\nkey: value\nBut then prose\n\n---\nText"))[-2:] == [
        "key: value But then prose",
        "Text",
    ]
    assert "key: value" in texts(markdown("---\nkey: value\n\nnever closed"))
    assert texts(markdown("Text\n\n---\ntitle: X\n---"))[0] == "Text"


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("Text\n\n```\ncode\n\nText", 3, "code block is never closed"),
        ("~~~~\ncode\n~~~\n", 1, "code block is never closed"),
        ("Text\n\n```", 3, "code block is never closed"),
        ("- ```\n  code\n\nText", 1, "code block is never closed"),
        ("---\ntitle: X\n---\n\n```\ncode", 5, "code block is never closed"),
        ("Text\n\n<!-- note\n\nText", 3, "<!-- is never closed"),
        ("Text <!-- note\n\nmore --> text", 1, "comment does not close in its paragraph"),
        ("<style>\n\nText", 1, "<style is never closed"),
        ("One <script>two", 1, "<script is never closed"),
        ("| a |\n|---|\n| 1 |\n| 2 | lost |", 4, "more cells"),
        (">" * 60 + " deep", 1, "nested too deeply"),
    ],
)
def test_markup_that_would_drop_text_is_refused_with_its_line(source: str, line: int, what: str) -> None:
    """Text that the parser would drop is a ScriptError with file, line and remedy."""
    error = read_or_refuse(source.encode(), "talk.md")
    assert isinstance(error, ScriptError)
    assert error.message.startswith(f"talk.md: line {line}: ")
    assert what in error.message
    assert error.remedy


def test_nesting_that_is_not_refused_loses_nothing() -> None:
    """Text in quotes and lists is read at every level that is not refused."""
    for depth in range(1, 60):
        for source in (">" * depth + " deep", "".join("  " * i + "- deep\n" for i in range(depth))):
            outcome = read_or_refuse(source.encode(), "talk.md")
            if isinstance(outcome, ScriptError):
                assert "nested too deeply" in outcome.message
                assert depth > 20
            else:
                assert len(outcome.paragraphs) == source.count("deep")


_word = st.text("abcdefgXYZäéñ019日本", min_size=1, max_size=6).map(lambda word: f"w{word}")
_inline = st.builds(
    lambda word, frame: (word, frame.format(word)),
    _word,
    st.sampled_from(
        [
            "{}",
            "{}",
            "*{}*",
            "**{}**",
            "`{}`",
            "~~{}~~",
            "[{}](http://x/y)",
            "<b>{}</b>",
            "{}<!-- n -->",
            "{}[^1]",
        ]
    ),
)
_line = st.lists(_inline, min_size=1, max_size=6)
_block_frames = st.sampled_from(
    [
        "{}\n",
        "# {}\n",
        "{}\n--\n",
        "- {}\n",
        "1. {}\n",
        "> {}\n",
        "> - {}\n",
        "<p>\n\n{}\n\n</p>\n",
        "|{}|\n|--|\n",
    ]
)
_left_out = st.sampled_from(
    [
        "",
        "```\ncode\n```\n",
        "![alt](x)\n",
        "<!-- note\n\nnote -->\n",
        "***\n",
        "[^1]: note\n",
        "[r]: http://x\n",
    ]
)


@given(st.lists(st.tuples(_line, _block_frames, _left_out), min_size=1, max_size=8))
@settings(deadline=None)
def test_markdown_loses_doubles_and_reorders_no_word(
    blocks: list[tuple[list[tuple[str, str]], str, str]],
) -> None:
    """Words in any mixture of markup are spoken once and in order, and text that is left out is not."""
    words = [word for line, _, _ in blocks for word, _ in line]
    source = "\n".join(
        frame.format(" ".join(marked for _, marked in line)) + "\n" + silent for line, frame, silent in blocks
    )
    assert " ".join(texts(markdown(source))).replace(",", "").split() == words
