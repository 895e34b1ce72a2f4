"""The table of `chaos.py`: how narrations ended under each fault, and how many jobs were paid."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Row:
    """All narrations under one fault, or under the same faults at once."""

    outcomes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    paid: list[int] = field(default_factory=list)
    allowed: int = 0

    def cells(self) -> tuple[str, str, str]:
        """Outcomes with their numbers, the most jobs paid, jobs allowed."""
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return outcomes, str(max(self.paid)), str(self.allowed)


class Outcomes:
    """The rows of all faults."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, Row] = defaultdict(Row)

    def add(self, fault: str, outcome: str, *, paid: int, allowed: int) -> None:
        """Add one narration under `fault`, and print it to stderr."""
        row = self.rows[fault]
        row.outcomes[outcome] += 1
        row.paid.append(paid)
        row.allowed = max(row.allowed, allowed)
        print(f"{fault}: {outcome}, {paid} jobs", file=sys.stderr, flush=True)

    def print_table(self) -> None:
        """Print the rows as a Markdown table, with sums below it."""
        print(
            "| fault | outcome of the run under it | most jobs paid for 4 chunks, both runs | jobs allowed |"
        )
        print("|---|---|---|---|")
        for fault, row in self.rows.items():
            print(f"| {fault} | " + " | ".join(row.cells()) + " |")
        narrations = sum(len(row.paid) for row in self.rows.values())
        jobs = sum(sum(row.paid) for row in self.rows.values())
        print(f"\n{narrations} narrations, {jobs} jobs")
