"""Where a decode step's time goes on a GPU: kernel by kernel, and where the host waits."""

from __future__ import annotations

import gzip
import json
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STEPS = 3  # profiled; the middle one is reported
_SMALL_US = 3  # a kernel shorter than this is mostly launch
_LONGEST_KERNELS = 20


def count_waits(runner: Any, sequences: list[Any]) -> dict[str, dict[str, int]]:
    """For each of the runner's methods, the lines of code that wait for the device, and how often."""
    methods: dict[str, Callable[[], Any]] = {
        "admit": lambda: runner.admit(sequences[0]),
        "release": lambda: runner.release(0),
        "run": lambda: runner.run(sequences, 2),
        "stream": lambda: runner.stream(sequences[0]),
    }
    waits = {}
    for name, method in methods.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                method()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        lines = [warning for warning in caught if "synchroniz" in str(warning.message)]
        waits[name] = dict(Counter(f"{Path(line.filename).name}:{line.lineno}" for line in lines))
    return waits


def profile_step(runner: Any, trace: Path) -> dict[str, Any]:
    """Profile steps, write their trace for a trace viewer (gzip), and return `summarize`'s figures."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        runner.run((), _STEPS)
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(plain))
        text = plain.read_text(encoding="utf-8")
    with gzip.open(trace, "wt", encoding="utf-8") as file:
        file.write(text)
    return summarize(json.loads(text)["traceEvents"])


def summarize(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Number and microseconds of the middle step's kernels and copies, and the longest by name."""
    kernels = [event for event in events if event.get("cat") in {"kernel", "gpu_memcpy", "gpu_memset"}]
    kernels.sort(key=lambda event: event["ts"])
    each = len(kernels) // _STEPS
    step = kernels[each : 2 * each]
    if not step:
        return {"kernels": 0}
    busy = sum(kernel["dur"] for kernel in step)
    span = step[-1]["ts"] + step[-1]["dur"] - step[0]["ts"]
    small = [kernel["dur"] for kernel in step if kernel["dur"] < _SMALL_US]
    by_name: defaultdict[str, list[float]] = defaultdict(list)
    for kernel in step:
        by_name[kernel["name"][:100]].append(kernel["dur"])
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:_LONGEST_KERNELS]
    return {
        "kernels": len(step),
        "span_us": round(span),
        "busy_us": round(busy),
        "small_kernels": len(small),
        "small_us": round(sum(small)),
        "longest": [[name, len(durations), round(sum(durations), 1)] for name, durations in longest],
    }
