"""Time and memory of narrations of thousands of chunks, and of fifty narrations queued at once.

    python benchmarks/load.py [--chunks 300 1000 5000] [--narrations 50]

The long narrations use `fixed_worker.py`, so that the pipeline is what is measured: its wall time,
its memory in each fifth of the synthesis and at its peak, and whether Prefect's server knows every
task and shows the whole progress at the end. The queued narrations (`queued_narrations.py`) use the
draft voice behind RunPod's queue. Exit status 1 if anything was lost or left over.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from checks import Checks
from long_narration import fixed_worker, follow, start, write_script
from memory import Memory
from prefect_records import completed_tasks, latest_artifact
from queued_narrations import run_queued_narrations
from support.prefect_servers import prefect_env, running_server

MOST_MEMORY = 400.0  # MB


def run_long_narration(chunks: int, seconds: float, concurrency: int, checks: Checks) -> None:
    """One narration of `chunks` chunks, `seconds` a job and `concurrency` at once; prints its row."""
    name = f"{chunks} chunks"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        api_url = stack.enter_context(running_server(folder / "server"))
        env = prefect_env(
            folder / "client",
            api_url,
            PREFECT_LOGGING_LEVEL="CRITICAL",
            NARRATION_STORE=str(folder / "store"),
            NARRATION_ENGINE="draft",
            NARRATION_CONCURRENCY=str(concurrency),
            NARRATION_RUNPOD_URL=stack.enter_context(fixed_worker(seconds)),
            RUNPOD_HIGGS_ENDPOINT_ID="fixed",
            RUNPOD_API_KEY="benchmark",
        )
        script = write_script(folder / "load.txt", chunks)
        memory = Memory()
        began = time.monotonic()
        process = start(script, env)
        stack.callback(process.kill)
        assert process.stdout is not None
        steps: dict[str, float] = {}
        with memory.sampling(lambda: [psutil.Process(process.pid)]):
            log = list(follow(process, steps))
            report = json.loads(process.stdout.read() or "{}")
            process.wait()
        wall = time.monotonic() - began
        checks.require_equal(f"{name}: exit status", process.returncode, 0)
        if process.returncode:
            print("".join(log[-20:]), file=sys.stderr)
            return
        checks.require_equal(f"{name}: synthesized", (report["synthesized"], report["failed"]), (chunks, 0))
        clips = sum(1 for _ in (folder / "store" / "clips").rglob("*.json"))
        checks.require_equal(f"{name}: clips stored", clips, chunks)
        records = sum(path.is_file() for path in (folder / "store" / "jobs").rglob("*"))
        checks.require_equal(f"{name}: job records left", records, 0)
        tasks = completed_tasks(api_url, chunks)
        checks.require_equal(f"{name}: completed tasks that the server knows", tasks, chunks)
        progress = latest_artifact(api_url, "progress-load-draft")
        checks.require_equal(f"{name}: progress at the end", progress, 100.0)
        _require_little_memory(name, memory, checks)
        synthesis = steps["master"] - steps["synthesize"]
        ideal = chunks / concurrency * seconds
        medians = " ".join(f"{size:.0f}" for size in memory.medians(steps["synthesize"], steps["master"]))
        print(
            f"| {chunks} | {wall:.0f} s | {synthesis:.0f} s | {synthesis / ideal:.2f} "
            f"| {steps['publish'] - steps['master']:.0f} s | {medians} | {memory.peak:.0f} MB "
            f"| {chunks - tasks} | {progress:g} % | {records} |",
            flush=True,
        )


def _require_little_memory(name: str, memory: Memory, checks: Checks) -> None:
    checks.require(memory.peak <= MOST_MEMORY, f"{name}: {memory.peak:.0f} MB, at most {MOST_MEMORY:.0f}")


def main() -> int:
    """Run what the arguments name; 1 if a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, nargs="*", default=[300, 1_000, 5_000])
    parser.add_argument("--seconds", type=float, default=6.0, help="that a job takes")
    parser.add_argument("--concurrency", type=int, default=100, help="jobs at once")
    parser.add_argument("--narrations", type=int, default=50, help="queued at once")
    arguments = parser.parse_args()
    checks = Checks()
    print(f"{os.cpu_count()} cores, {arguments.seconds:g} s a job, {arguments.concurrency} at once")
    print(
        "| chunks | wall | synthesis | over ideal | mastering | MB in each fifth of the synthesis | peak "
        "| tasks lost | progress | job records left |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for chunks in arguments.chunks:
        run_long_narration(chunks, arguments.seconds, arguments.concurrency, checks)
    if arguments.narrations:
        memory = run_queued_narrations(arguments.narrations, checks)
        _require_little_memory(f"{arguments.narrations} narrations", memory, checks)
    return checks.exit_status()


if __name__ == "__main__":
    sys.exit(main())
