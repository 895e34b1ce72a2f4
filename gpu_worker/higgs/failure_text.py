"""Failure text: an exception as one line of a log."""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """Type and message without line breaks, at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
