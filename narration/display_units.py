"""Durations and sums of money, written as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Seconds as m:ss, or as h:mm:ss from one hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def dollars(amount: float) -> str:
    """USD in whole cents; what is more than nothing and less than a cent is said to be that."""
    return "under $0.01" if 0 < amount < 0.01 else f"${amount:.2f}"


def count(number: int, noun: str) -> str:
    """A number with its noun in the singular or the plural: `1 chunk`, `4 chunks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
