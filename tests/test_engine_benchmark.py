"""The engine's benchmark: a row or part that fails is named, and every other one is measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import sys
sys.path.insert(0, "benchmarks")
import engine

{fault}
sys.argv = ["engine.py", "--device", "cpu", "--size", "tiny", "--slots", "1", "2", "3", "--steps", "4"]
sys.exit(engine.main())
"""

ROWS_FAIL = """
def fails(measure, number, error):
    def measure_or_fail(clock, subject, count, *others):
        if count == number:
            raise error
        return measure(clock, subject, count, *others)
    return measure_or_fail

engine.codec_seconds = fails(engine.codec_seconds, 2, RuntimeError("no such kernel"))
engine.generate_step_seconds = fails(engine.generate_step_seconds, 3, ValueError("no such prompt"))
engine.load_engine_with = lambda *_: 1 / 0
"""


def run(fault: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with tiny weights, after the statements in `fault`."""
    return subprocess.run(
        [sys.executable, "-c", CODE.format(fault=fault)],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_row_that_fails_ends_no_other() -> None:
    """The reason stands in the failed row's or part's place, the exit status is 1, the rest is printed."""
    done = run(ROWS_FAIL)
    assert done.returncode == 1, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| 1 |", "| 2 |", "| 3 |"))]
    assert [row for row in rows if "Error" in row] == [
        "| 2 | RuntimeError: no such kernel |" + " |" * 5,
        "| 3 | ValueError: no such prompt | |",
    ]
    assert len(rows) == 6
    assert "Not measured: loading and load (ZeroDivisionError" in done.stdout


def test_an_engine_that_fails_leaves_generate_measured() -> None:
    """Without the engine's speeds the table of `generate()` has no ratios."""
    done = run("engine.Benchmark.load_language_model = lambda _: 1 / 0")
    assert done.returncode == 1, done.stderr
    assert "Not measured: the engine (ZeroDivisionError" in done.stdout
    assert len(re.findall(r"^\| [123] \| \d+ \|  \|$", done.stdout, flags=re.MULTILINE)) == 3


def test_the_engines_rows_come_before_those_of_generate() -> None:
    """Without a fault everything is measured, the exit status is 0, and `generate()` is measured last."""
    done = run("")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.index("| slots |")
        < done.stdout.index("to load the engine")
        < done.stdout.index("| prompts |")
    )
