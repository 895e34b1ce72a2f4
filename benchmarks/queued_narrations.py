"""Queues many narrations at once for `load.py`, in a work pool that runs a few of them at a time."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
from checks import Checks
from memory import Memory
from prefect_records import completed_tasks, latest_artifact
from support.deployments import FINAL, POOL, Deployed, deploy, runs_below, start_servers, worker_of

AT_A_TIME = 3
CHUNKS = 6  # of each narration
END_SECONDS = 3_600.0


def run_queued_narrations(narrations: int, checks: Checks) -> Memory:
    """Queue so many narrations, wait for their ends, check them and print a line; the runs' memory."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        deployed = deploy(stack, start_servers(stack, home / "server"), home)
        limit = ("work-pool", "set-concurrency-limit", POOL, str(AT_A_TIME))
        done = deployed.command("-m", "prefect", *limit)
        assert done.returncode == 0, done.stderr
        began = time.monotonic()
        runs = [
            deployed.start("narrate", narration_id=f"load-{number}", text=_script(number))
            for number in range(narrations)
        ]
        queued = time.monotonic() - began
        memory = Memory()
        with worker_of(deployed, "worker") as worker:

            def run_processes() -> list[psutil.Process]:
                return [process for processes in runs_below(worker.pid).values() for process in processes]

            with memory.sampling(run_processes):
                ends = _wait_for_ends(deployed, runs)
        seconds = time.monotonic() - began
        outcome = _check(deployed, narrations, ends, checks)
        print(
            f"\n{narrations} narrations of {CHUNKS} chunks queued in {queued:.1f} s, "
            f"{AT_A_TIME} at a time: {seconds:.0f} s ({60 * narrations / seconds:.1f} a minute), "
            f"{outcome}, {memory.peak:.0f} MB in the largest run"
        )
        return memory


def _check(deployed: Deployed, narrations: int, ends: Counter[str], checks: Checks) -> str:
    """Check that every narration is published, and nothing lost, paid twice or left; the counts in words."""
    name, chunks = f"{narrations} narrations", narrations * CHUNKS
    checks.require_equal(f"{name}: states of the runs", dict(ends), {"COMPLETED": narrations})
    jobs = Counter(deployed.endpoint.submitted)
    checks.require_equal(f"{name}: texts, jobs", (len(jobs), jobs.total()), (chunks, chunks))
    records = len(list(deployed.store.jobs.list()))
    checks.require_equal(f"{name}: job records left", records, 0)
    tasks = completed_tasks(deployed.api_url, chunks)
    checks.require_equal(f"{name}: completed tasks that the server knows", tasks, chunks)
    progress = {
        latest_artifact(deployed.api_url, f"progress-load-{number}-draft") for number in range(narrations)
    }
    checks.require_equal(f"{name}: progress at the end", progress, {100.0})
    published = sum(
        len(deployed.manifest(f"load-{number}-draft")["chunks"]) == CHUNKS for number in range(narrations)
    )
    checks.require_equal(f"{name}: published", published, narrations)
    return f"{published} published, {jobs.total()} jobs, {chunks - tasks} tasks lost, {records} records left"


def _script(number: int) -> str:
    """A script whose chunks no other narration has."""
    return "\n\n".join(
        f"Paragraph {chunk} of narration {number} says its two numbers, so that it is nobody else's."
        for chunk in range(CHUNKS)
    )


def _wait_for_ends(deployed: Deployed, runs: list[str]) -> Counter[str]:
    """How many runs ended in which state, once all have ended."""
    give_up = time.monotonic() + END_SECONDS
    while True:
        states = []
        for first in range(0, len(runs), 200):
            query = {"flow_runs": {"id": {"any_": runs[first : first + 200]}}}
            states += [run["state_type"] for run in deployed.post("/flow_runs/filter", query)]
        if set(states) <= FINAL or time.monotonic() > give_up:
            return Counter(states)
        time.sleep(1)
