"""The GPU measurement: rehearsed on the CPU, its missing packages named, its results written at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {
    "machine",
    "attention against float32",
    "logits against float32",
    "random weights",
    "decode",
    "codec decode",
    "codec encode",
    "decode beside the codec",
    "engine",
    "matrix product",
    "attention",
    "variant",
    "generate()",
}

pytestmark = pytest.mark.skipif(shutil.which("timeout") is None, reason="measure_gpu.sh needs GNU timeout")


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def measure(out: Path, *, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run measure_gpu.sh on the CPU."""
    environment = {"PATH": os.environ["PATH"], "PYTHON": python, "OUT": str(out), "DEVICE": "cpu"}
    return subprocess.run(
        ["bash", ROOT / "benchmarks/measure_gpu.sh", "280"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )


def test_the_rehearsal_measures_every_stage(tmp_path: Path) -> None:
    """Without a GPU the script runs every stage with tiny weights, and says that it is a rehearsal."""
    done = measure(tmp_path)
    log = tmp_path / "log.txt"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert "this is a rehearsal" in done.stdout
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {result["stage"] for result in results} == STAGES
    assert all(result.get("sound", True) for result in results)
    table = (tmp_path / "table.md").read_text()
    assert table.startswith("| slots | frames/s |")
    assert "| 2 | " in table
    assert re.search(r"^\d+ skipped in", (tmp_path / "pytest.txt").read_text(), flags=re.MULTILINE)


def test_missing_packages_are_named(tmp_path: Path) -> None:
    """A Python without the worker's packages measures nothing; the error names them and the remedy."""
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    done = measure(tmp_path / "out", python=str(bare))
    assert done.returncode == 2
    assert "torch" in done.stderr
    assert "soundfile" in done.stderr
    assert "pip install -c constraints.txt -e '.[dev,worker]'" in done.stderr


def test_a_failed_or_late_stage_ends_no_other(tmp_path: Path) -> None:
    """Each result is written before the next stage begins; the table gives the reason of each failure."""
    from stage_report import Report

    report = Report(tmp_path, seconds=60)

    def fail() -> None:
        raise ValueError("no such card")

    report.run("first", 10, lambda: report.note("first", figure=1))
    report.run("failing", 10, fail)
    report.run("late", 0.2, lambda: time.sleep(30))
    written = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in written] == ["first", "failing", "late"]
    report.run("last", 10, lambda: report.note("last", figure=2))
    assert report.failed == ["failing", "late"]
    table = (tmp_path / "table.md").read_text()
    assert "- first: figure 1" in table
    assert "ValueError: no such card" in table
    assert "StageTimeout: longer than 0 s" in table
    assert "- last: figure 2" in table


def test_a_stage_is_not_started_without_time_left(tmp_path: Path) -> None:
    """The stages that no time was left for are named."""
    from stage_report import Report

    report = Report(tmp_path, seconds=1)
    report.run("any", 10, lambda: report.note("any"))
    assert report.failed == ["any"]


def test_a_profile_reports_the_middle_step() -> None:
    """Of three steps' kernels the middle third counts: their number, time, gaps and the longest by name."""
    from gpu_profile import summarize

    events = [
        {"cat": "kernel", "name": name, "ts": 100 * step + at, "dur": duration}
        for step in range(3)
        for name, at, duration in (("gemm", 0, 40 + step), ("copy", 50, 2), ("gemm", 60, 20))
    ]
    figures = summarize([*events, {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 1}])
    assert figures == {
        "kernels": 3,
        "span_us": 80,
        "busy_us": 63,
        "small_kernels": 1,
        "small_us": 2,
        "longest": [["gemm", 2, 61], ["copy", 1, 2]],
    }
