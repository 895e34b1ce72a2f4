"""Time that the pipeline adds to the workers' own, and time of a run whose clips are all stored.

    python benchmarks/pipeline.py [--chunks 1000] [--seconds 6] [--concurrency 100]

Prints the wall time of synthesis over the ideal (chunks / concurrency x seconds), beside the same
number of empty Prefect tasks with the same concurrency, then of the same run again, which finds
every clip stored; and the peak memory of each run. The store is a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from long_narration import fixed_worker, follow, start, write_script

EMPTY_TASKS = """
import asyncio, sys, time
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

chunks, seconds, concurrency = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])

@task(cache_policy=NO_CACHE)
async def wait(index):
    await asyncio.sleep(seconds)

@flow
async def empty():
    left = iter(range(chunks))
    async def consume():
        for index in left:
            await wait(index)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(consume())
    print(time.monotonic() - began)

asyncio.run(empty())
"""


def main() -> None:
    """Run all three and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--concurrency", type=int, default=100)
    arguments = parser.parse_args()
    ideal = arguments.chunks / arguments.concurrency * arguments.seconds
    size = f"{arguments.chunks} chunks, {arguments.seconds:g} s each, {arguments.concurrency} at once"
    print(f"{size}: ideal {ideal:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        env = _environment(Path(folder), arguments.concurrency)
        with fixed_worker(arguments.seconds) as address:
            env |= {"NARRATION_RUNPOD_URL": address}
            script = write_script(Path(folder, "script.txt"), arguments.chunks)
            first = _narrate(script, env)
            again = _narrate(script, env)
        empty = subprocess.run(
            [
                sys.executable,
                "-c",
                EMPTY_TASKS,
                str(arguments.chunks),
                str(arguments.seconds),
                str(arguments.concurrency),
            ],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
    _row("narrate", first["synthesize"], ideal, first)
    _row("empty Prefect tasks", float(empty.stdout.split()[-1]), ideal, None)
    _row("narrate, all stored", again["wall"], first["wall"], again)


def _environment(folder: Path, concurrency: int) -> dict[str, str]:
    return dict(os.environ) | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "NARRATION_STORE": str(folder / "store"),
        "NARRATION_ENGINE": "draft",
        "NARRATION_CONCURRENCY": str(concurrency),
        "RUNPOD_HIGGS_ENDPOINT_ID": "fixed",
        "RUNPOD_API_KEY": "benchmark",
    }


def _narrate(script: Path, env: dict[str, str]) -> dict[str, float]:
    """Wall seconds, seconds of the synthesis step, and peak memory in MB of one run."""
    began = time.monotonic()
    process = start(script, env)
    assert process.stdout is not None
    peak = 0.0
    steps: dict[str, float] = {}
    for _ in follow(process, steps):
        peak = max(peak, _resident(process.pid))
    outcome = json.loads(process.stdout.read())
    process.wait()
    assert outcome["failed"] == 0, outcome
    ended = steps.get("master", time.monotonic())
    return {
        "wall": time.monotonic() - began,
        "synthesize": ended - steps["plan"],
        "peak": peak,
    }


def _resident(pid: int) -> float:
    """Peak resident memory of a process so far, in MB; 0 where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


def _row(name: str, seconds: float, against: float, run: dict[str, float] | None) -> None:
    memory = f", peak {run['peak']:.0f} MB" if run and run["peak"] else ""
    print(f"{name:<22} {seconds:8.1f} s  {seconds / against:6.2f} x{memory}")


if __name__ == "__main__":
    main()
