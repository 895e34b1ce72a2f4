"""Sentences of many scripts for tests of captions."""

from __future__ import annotations

from hypothesis import strategies as st

_words = st.text(
    st.sampled_from("abcdefgh,.!?&<>-'\"0123456789éßЖ字。👍🏽👨\u200d🇩🇪\u0301\u200b\u00a0אب"),
    min_size=1,
    max_size=60,
)
sentences = st.lists(_words, min_size=1, max_size=30).map(" ".join)
