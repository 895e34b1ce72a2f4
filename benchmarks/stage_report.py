"""Runs a measurement's stages within their time limits, and writes every result at once."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MIN_SECONDS = 5  # a stage is not started with less time left

DECODE_COLUMNS = {
    "slots": "slots",
    "frames_per_s": "frames/s",
    "x_real_time": "x real time",
    "step_ms": "step ms",
    "roofline_share": "of the roofline",
    "eager_step_ms": "step without graph ms",
    "prefill_uncached_ms": "prefill uncached ms",
    "prefill_cached_ms": "cached ms",
    "attention": "attention",
    "sampler": "sampler",
}
"""Figures of the stage `decode` and their headings in the table."""


class StageTimeout(Exception):
    """A stage took longer than its limit."""


class Report:
    """Results of a measurement in `folder`: results.jsonl, a line for each, and table.md.

    `seconds` is the time for the whole measurement, from now. With `stage_limits` False a stage may
    take all of it: for a rehearsal, whose machine may be busy.
    """

    def __init__(self, folder: Path, seconds: float, *, stage_limits: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._stage_limits = stage_limits
        self._lines: list[dict[str, Any]] = []
        self._began = time.perf_counter()
        self._ends = self._began + seconds
        self._results = folder / "results.jsonl"
        self._results.write_text("", encoding="utf-8")

    @property
    def failed(self) -> list[str]:
        """Stages that raised, ran out of time or were not started."""
        return [line["stage"] for line in self._lines if "failed" in line or "skipped" in line]

    def note(self, stage: str, **figures: Any) -> None:
        """Write one result."""
        line = {"stage": stage, **figures, "at_s": round(time.perf_counter() - self._began, 1)}
        self._lines.append(line)
        text = json.dumps(line, default=str)
        with self._results.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, flush=True)

    def run(self, stage: str, limit: float, work: Callable[[], object]) -> None:
        """Run one stage for `limit` seconds at most; its failure is noted and ends nothing else."""
        left = self._ends - time.perf_counter()
        if left < _MIN_SECONDS:
            self.note(stage, skipped=f"{max(0, left):.0f} s left of the whole measurement")
            return
        limit = min(limit, left) if self._stage_limits else left
        try:
            run_within(limit, work)
        except Exception as error:  # noqa: BLE001 -- the other stages are measured whatever this one raised
            traceback.print_exc()
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error}"[:400]
            self.note(stage, failed=reason, where=f"{Path(place.filename).name}:{place.lineno}")
        self.write_table()

    def write_table(self) -> None:
        """Write table.md anew: the decode figures as a table, all others as a list."""
        decode = [line for line in self._lines if line["stage"] == "decode" and "slots" in line]
        text = ["| " + " | ".join(DECODE_COLUMNS.values()) + " |", "|---" * len(DECODE_COLUMNS) + "|"]
        text += [
            f"| {' | '.join(str(line.get(figure, '')) for figure in DECODE_COLUMNS)} |" for line in decode
        ]
        text.append("")
        for line in self._lines:
            if line not in decode:
                figures = (f"{name} {value}" for name, value in line.items() if name not in {"stage", "at_s"})
                text.append(f"- {line['stage']}: {', '.join(figures)}")
        (self.folder / "table.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def run_within(limit: float, work: Callable[[], object]) -> None:
    """Run `work`; raise `StageTimeout` in it after `limit` seconds, where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):  # Windows
        work()
        return

    def time_out(*_: object) -> None:
        raise StageTimeout(f"longer than {limit:.0f} s")

    signal.signal(signal.SIGALRM, time_out)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
