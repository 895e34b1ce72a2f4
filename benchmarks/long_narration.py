"""Starts one narration of many chunks with `fixed_worker.py`, for `load.py` and `pipeline.py`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_script(path: Path, chunks: int) -> Path:
    """Write a script of so many chunks to `path`."""
    sentences = (f"This is sentence number {number} of a long script." for number in range(chunks))
    path.write_text("\n\n".join(sentences), encoding="utf-8")
    return path


@contextmanager
def fixed_worker(seconds: float) -> Iterator[str]:
    """Run `fixed_worker.py` with so many seconds a job; its base URL."""
    command = [sys.executable, str(Path(__file__).with_name("fixed_worker.py")), str(seconds)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        yield worker.stdout.readline().strip()
    finally:
        worker.kill()
        worker.wait()


def start(script: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start `narrate run --json` of a script."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(script), "--json"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def follow(process: subprocess.Popen[str], steps: dict[str, float]) -> Iterator[str]:
    """The lines of a run's stderr; `steps` gets the monotonic time of each step's first line."""
    assert process.stderr is not None
    for line in process.stderr:
        steps.setdefault(line.partition(":")[0], time.monotonic())
        yield line
