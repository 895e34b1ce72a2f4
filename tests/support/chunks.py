"""Chunks for tests: strategies for scripts and limits, and what must hold of the chunks of any script."""

from __future__ import annotations

from hypothesis import strategies as st

from narration.chunking import MAX_LIMIT, MIN_LIMIT, Chunk
from narration.script import Script
from narration.script.paragraph import Paragraph
from support.scripts import nasty_text, speakable

limits = st.one_of(st.sampled_from([MIN_LIMIT, 41, 160, 500]), st.integers(MIN_LIMIT, MAX_LIMIT))
_paragraphs = st.builds(
    lambda text, kind: Paragraph(text, kind, 2 if kind == "heading" else 0),
    nasty_text,
    st.sampled_from(["heading", "paragraph", "paragraph", "item", "item"]),
)
scripts = st.lists(_paragraphs, max_size=6).map(
    lambda paragraphs: Script(tuple(paragraphs), None, "0" * 64, b"")
)


def texts(chunks: tuple[Chunk, ...]) -> list[str]:
    """The chunks' texts."""
    return [chunk.text for chunk in chunks]


def assert_lossless(script: Script, chunks: tuple[Chunk, ...]) -> None:
    """Each speakable character of the script is in the chunks once and in order, and in their sentences."""
    expected = "".join(speakable(paragraph.text) for paragraph in script.paragraphs)
    assert speakable("".join(texts(chunks))) == expected
    assert speakable("".join(s for chunk in chunks for s in chunk.sentences)) == expected


def assert_well_formed(chunks: tuple[Chunk, ...], limit: int) -> None:
    """Indexes, boundaries, levels and sentences of the chunks agree, and none is over `limit`."""
    assert [chunk.index for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk.boundary == "end" for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
    assert all(chunk.boundary == "end" for chunk in chunks[-1:])
    for chunk in chunks:
        assert len(chunk.text) <= limit
        assert chunk.text == " ".join(chunk.sentences)
        assert all(sentence and sentence == " ".join(sentence.split()) for sentence in chunk.sentences)
        assert all(speakable(sentence) for sentence in chunk.sentences)
        assert (chunk.kind == "heading") == (chunk.level > 0)
