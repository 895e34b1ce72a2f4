"""What a storm met, how each narration ended and what was paid for it, and which promises did not hold."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Row:
    """What was seen of one fault, or of several at once."""

    outcomes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    paid: list[int] = field(default_factory=list)
    allowed: int = 0

    def note(self, outcome: str, paid: int, allowed: int) -> None:
        """One more narration."""
        self.outcomes[outcome] += 1
        self.paid.append(paid)
        self.allowed = max(self.allowed, allowed)

    def cells(self) -> tuple[str, str, str]:
        """Outcomes, jobs paid at most, jobs allowed."""
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return outcomes, str(max(self.paid)), str(self.allowed)


class Ledger:
    """All narrations of a storm."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, Row] = defaultdict(Row)
        self.broken: list[str] = []

    def note(self, name: str, outcome: str, paid: int, allowed: int) -> None:
        """A narration that met `name` ended so; told at once, too."""
        self.rows[name].note(outcome, paid, allowed)
        print(f"{name}: {outcome}, {paid} jobs", file=sys.stderr, flush=True)

    def require(self, held: bool, otherwise: str) -> None:
        """A promise; `otherwise` says what broke it."""
        if not held:
            self.broken.append(otherwise)

    def print_table(self, seed: int) -> None:
        """Markdown, as in the README."""
        print("| fault | outcome, then the rerun | jobs paid for 4 chunks | allowed |\n|---|---|---|---|")
        for name, row in self.rows.items():
            print(f"| {name} | " + " | ".join(row.cells()) + " |")
        count = sum(len(row.paid) for row in self.rows.values())
        paid = sum(sum(row.paid) for row in self.rows.values())
        print(f"\nseed {seed}: {count} narrations, {paid} jobs, {len(self.broken)} promises broken")
        for promise in self.broken:
            print(f"BROKEN {promise}")
