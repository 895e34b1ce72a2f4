"""What thousands of chunks in one narration cost the pipeline, and fifty narrations queued at once.

    python benchmarks/load.py [--chunks 300 1000 5000] [--narrations 50]

The long scripts are spoken by `fixed_worker.py`, so that what is measured is the pipeline: its
wall time, its memory at every fifth of the synthesis and at its peak, and whether the server
knows of every task and shows the whole progress at the end. The narrations are asked for at
once, of a deployment on PostgreSQL, in a work pool that runs a few of them at a time, with
the draft voice behind RunPod's queue. Ends with 1 if anything was lost or left over.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from long_narration import fixed_worker, follow, start, write_script
from support.deployments import FINAL, POOL, Deployed, deploy, open_setting, runs_below, worker_of
from support.prefect_servers import prefect_env, running_server

MOST_MEMORY = 400.0  # MB
SAMPLE_SECONDS = 0.25
CATCH_UP_SECONDS = 120.0  # for the server to have written down what it was told
AT_A_TIME = 3
CHUNKS_OF_EACH = 6
TOGETHER_SECONDS = 3_600.0


@dataclass
class Memory:
    """Resident memory of processes while it is watched: (seconds on the monotonic clock, MB)."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def watching(self, processes: Callable[[], list[psutil.Process]]) -> Iterator[None]:
        """Note the largest of `processes` until the block ends."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(SAMPLE_SECONDS):
                self._note(processes())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    @property
    def peak(self) -> float:
        """The most that was seen."""
        return max((size for _, size in self.samples), default=0.0)

    def along(self, begin: float, end: float, parts: int = 5) -> list[float]:
        """The median in each of `parts` equal stretches between two moments."""
        edges = [begin + (end - begin) * part / parts for part in range(parts + 1)]
        found = [[size for at, size in self.samples if a <= at < b] for a, b in pairwise(edges)]
        return [statistics.median(sizes) if sizes else 0.0 for sizes in found]

    def _note(self, processes: list[psutil.Process]) -> None:
        sizes = [0.0]
        for process in processes:
            try:
                sizes.append(process.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue
        self.samples.append((time.monotonic(), max(sizes)))


class Checks:
    """What was promised and did not hold."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def require(self, what: str, found: object, wanted: object) -> None:
        """`found` has to be `wanted`."""
        if found != wanted:
            self.broken.append(f"{what}: {found}, not {wanted}")


def narrate_long(chunks: int, seconds: float, concurrency: int, checks: Checks) -> None:
    """One narration of `chunks` chunks, each spoken in `seconds`, `concurrency` at once; prints its row."""
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
        told: list[str] = []
        with memory.watching(lambda: [psutil.Process(process.pid)]):
            told += follow(process, steps)
            outcome = json.loads(process.stdout.read() or "{}")
            process.wait()
        ended = time.monotonic()
        name = f"{chunks} chunks"
        checks.require(f"{name}: exit status", process.returncode, 0)
        if process.returncode:
            print("".join(told[-20:]), file=sys.stderr)
            return
        checks.require(f"{name}: synthesized", (outcome["synthesized"], outcome["failed"]), (chunks, 0))
        stored = sum(1 for _ in (folder / "store" / "clips").rglob("*.json"))
        checks.require(f"{name}: clips stored", stored, chunks)
        left = sum(path.is_file() for path in (folder / "store" / "jobs").rglob("*"))
        checks.require(f"{name}: job records left", left, 0)
        known = tasks_known(api_url, chunks)
        checks.require(f"{name}: tasks that the server knows as completed", known, chunks)
        shown = artifact(api_url, "progress-load-draft")
        checks.require(f"{name}: progress at the end", shown, 100.0)
        if memory.peak > MOST_MEMORY:
            checks.broken.append(f"{name}: {memory.peak:.0f} MB is more than {MOST_MEMORY:.0f}")
        synthesis = steps["master"] - steps["synthesize"]
        ideal = chunks / concurrency * seconds
        along = " ".join(f"{size:.0f}" for size in memory.along(steps["synthesize"], steps["master"]))
        print(
            f"| {chunks} | {ended - began:.0f} s | {synthesis:.0f} s ({synthesis / ideal:.2f} x) "
            f"| {steps['publish'] - steps['master']:.0f} s | {along} | {memory.peak:.0f} MB "
            f"| {chunks - known} | {shown:g} % | {left} |",
            flush=True,
        )


def tasks_known(api_url: str, wanted: int) -> int:
    """How many clips' tasks the server knows as completed, once it has caught up."""
    asked = {"task_runs": {"name": {"like_": "chunk "}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    give_up = time.monotonic() + CATCH_UP_SECONDS
    while True:
        known = int(
            httpx.post(f"{api_url}/task_runs/count", json=asked, timeout=60).raise_for_status().json()
        )
        if known >= wanted or time.monotonic() > give_up:
            return known
        time.sleep(1)


def artifact(api_url: str, key: str) -> Any:
    """The data of the latest artifact of that key."""
    asked = {"artifacts": {"key": {"any_": [key]}}, "sort": "UPDATED_DESC", "limit": 1}
    found = httpx.post(f"{api_url}/artifacts/filter", json=asked, timeout=60).raise_for_status().json()
    return found[0]["data"] if found else None


def narrate_many(narrations: int, checks: Checks) -> None:
    """So many narrations asked for at once; prints their row."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        deployed = deploy(stack, open_setting(stack, home / "server"), home)
        few = ("work-pool", "set-concurrency-limit", POOL, str(AT_A_TIME))
        done = deployed.command("-m", "prefect", *few)
        assert done.returncode == 0, done.stderr
        began = time.monotonic()
        runs = [
            deployed.start("narrate", narration_id=f"load-{number}", text=script_of(number))
            for number in range(narrations)
        ]
        queued = time.monotonic() - began
        memory = Memory()
        with worker_of(deployed, "worker") as worker:

            def at_work() -> list[psutil.Process]:
                return [process for below in runs_below(worker.pid).values() for process in below]

            with memory.watching(at_work):
                ends = all_ended(deployed, runs)
        taken = time.monotonic() - began
        name = f"{narrations} narrations"
        checks.require(f"{name}: how they ended", dict(ends), {"COMPLETED": narrations})
        chunks = narrations * CHUNKS_OF_EACH
        paid = Counter(deployed.endpoint.submitted)
        checks.require(f"{name}: texts spoken, jobs", (len(paid), paid.total()), (chunks, chunks))
        left = len(list(deployed.store.jobs.list()))
        checks.require(f"{name}: job records left", left, 0)
        known = tasks_known(deployed.api_url, chunks)
        checks.require(f"{name}: tasks that the server knows as completed", known, chunks)
        shown = {artifact(deployed.api_url, f"progress-load-{number}-draft") for number in range(narrations)}
        checks.require(f"{name}: progress at the end", shown, {100.0})
        published = sum(
            len(deployed.manifest(f"load-{number}-draft")["chunks"]) == CHUNKS_OF_EACH
            for number in range(narrations)
        )
        checks.require(f"{name}: published", published, narrations)
        if memory.peak > MOST_MEMORY:
            checks.broken.append(f"{name}: {memory.peak:.0f} MB is more than {MOST_MEMORY:.0f}")
        print(
            f"\n{narrations} narrations of {CHUNKS_OF_EACH} chunks queued in {queued:.1f} s, "
            f"{AT_A_TIME} at a time: {taken:.0f} s ({60 * narrations / taken:.1f} a minute), "
            f"{published} published, {paid.total()} jobs, {chunks - known} tasks lost, {left} records left, "
            f"{memory.peak:.0f} MB the largest run"
        )


def script_of(number: int) -> str:
    """A script whose chunks no other narration has."""
    return "\n\n".join(
        f"Paragraph {chunk} of narration {number} says its two numbers, so that it is nobody else's."
        for chunk in range(CHUNKS_OF_EACH)
    )


def all_ended(deployed: Deployed, runs: list[str]) -> Counter[str]:
    """How the runs ended, once all have."""
    give_up = time.monotonic() + TOGETHER_SECONDS
    while True:
        states = []
        for first in range(0, len(runs), 200):
            asked = {"flow_runs": {"id": {"any_": runs[first : first + 200]}}}
            states += [run["state_type"] for run in deployed.post("/flow_runs/filter", asked)]
        if set(states) <= FINAL or time.monotonic() > give_up:
            return Counter(states)
        time.sleep(1)


def main() -> int:
    """Run what was asked for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, nargs="*", default=[300, 1_000, 5_000])
    parser.add_argument("--seconds", type=float, default=6.0, help="that a job takes")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--narrations", type=int, default=50)
    asked = parser.parse_args()
    checks = Checks()
    print(f"{os.cpu_count()} cores, {asked.seconds:g} s a job, {asked.concurrency} at once")
    print(
        "| chunks | wall | synthesis (to ideal) | mastering | MB at each fifth | peak | lost | shown | left |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for chunks in asked.chunks:
        narrate_long(chunks, asked.seconds, asked.concurrency, checks)
    if asked.narrations:
        narrate_many(asked.narrations, checks)
    for promise in checks.broken:
        print(f"BROKEN {promise}")
    return 1 if checks.broken else 0


if __name__ == "__main__":
    sys.exit(main())
