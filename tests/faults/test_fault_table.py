"""`docs/faults.md` has a row for each tested fault, with the outcome and the jobs that the tests allow."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from faults import (
    test_bad_audio,
    test_damaged_clips,
    test_fault_matrix,
    test_interrupted_runs,
    test_machine_faults,
)
from faults.fault import Fault
from faults.matrix import FAULTS
from faults.narration_case import CHUNKS

ROOT = Path(__file__).parents[2]
MODULES = (
    test_bad_audio,
    test_damaged_clips,
    test_fault_matrix,
    test_interrupted_runs,
    test_machine_faults,
)


def table() -> dict[str, tuple[str, str]]:
    """Outcome and jobs paid, by fault."""
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert rows[0] == ("fault", "outcome", "jobs paid")
    faults = [fault for fault, _, _ in rows[1:]]
    assert len(set(faults)) == len(faults)
    return {fault: (outcome, jobs) for fault, outcome, jobs in rows[1:]}


TABLE = table()


def marked_rows(module: ModuleType) -> set[str]:
    """The rows that the tests of a module are marked with."""
    functions = [value for name, value in vars(module).items() if name.startswith("test_")]
    marks = [mark for holder in [module, *functions] for mark in getattr(holder, "pytestmark", [])]
    return {mark.args[0] for mark in marks if mark.name == "fault_row"}


def faults_of(row: str) -> list[Fault]:
    return [fault for fault in FAULTS if fault.row == row]


def test_every_tested_fault_has_a_row_and_every_row_is_tested() -> None:
    """The one row without a test names the benchmark that makes its fault."""
    tested = {fault.row for fault in FAULTS}.union(*map(marked_rows, MODULES))
    assert tested - set(TABLE) == set()
    (benchmarked,) = set(TABLE) - tested
    script = re.search(r"`(benchmarks/.+\.py)`", benchmarked)
    assert script is not None
    assert (ROOT / script[1]).is_file()


@pytest.mark.parametrize("row", sorted({fault.row for fault in FAULTS}))
def test_a_row_says_how_narrations_end_under_its_faults(row: str) -> None:
    """`identical` where they complete, `fails ...; then identical` where they do not."""
    outcome, _ = TABLE[row]
    assert {fault.ends for fault in faults_of(row)} == {
        "fails" if outcome.startswith("fails") else "complete"
    }
    assert outcome == "identical" or outcome.endswith("; then identical")


@pytest.mark.parametrize("row", sorted({fault.row for fault in FAULTS}))
def test_a_row_says_how_many_jobs_its_faults_may_cost(row: str) -> None:
    """Four, and those that a fault destroys."""
    _, jobs = TABLE[row]
    lost = max(fault.lost for fault in faults_of(row))
    assert re.sub(r" \(.*\)", "", jobs) == (f"up to {CHUNKS + lost}" if lost else str(CHUNKS))


def test_the_readme_links_to_the_table() -> None:
    """A reader of the README finds it."""
    assert "(docs/faults.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
