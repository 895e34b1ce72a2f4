"""Narrations per minute with one, two and four Prefect workers on one PostgreSQL server.

    python benchmarks/scale_out.py [NARRATIONS [WORKERS ...]]

Each narration is a deployment's run, a process of its own, whose chunks no other narration has; the
endpoint delays each result by a second, as a GPU would, and speaks the draft voice. Every worker runs
two narrations at a time. What counts is the ratio to one worker; the cores of this machine limit it,
since the runs' processes, Prefect's server and PostgreSQL share them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.deployments import Deployed, deploy, start_servers, worker_of

RUNS_A_WORKER = 2
CHUNKS = 6
JOB_SECONDS = 1.0


def script(batch: str, number: int) -> str:
    """A script whose chunks no other narration has."""
    return "\n\n".join(
        f"Paragraph {chunk} of narration {number} of the {batch} says its numbers, so that it is its own."
        for chunk in range(CHUNKS)
    )


def measure(deployed: Deployed, workers: int, narrations: int) -> float:
    """Seconds from the first request until all are published, with workers that were idle before."""
    batch = f"batch of {workers}"
    with ExitStack() as stack:
        for number in range(workers):
            name = f"{workers}-{number}"
            stack.enter_context(worker_of(deployed, name, "--limit", str(RUNS_A_WORKER)))
        warm = deployed.start("narrate", narration_id=f"warm-{workers}", text=script(batch, -1))
        deployed.finished(warm, 600)
        began = perf_counter()
        runs = [
            deployed.start("narrate", narration_id=f"batch-{workers}-{number}", text=script(batch, number))
            for number in range(narrations)
        ]
        ends = {deployed.finished(run, 1_800)["state_type"] for run in runs}
        taken = perf_counter() - began
    assert ends == {"COMPLETED"}, ends
    return taken


def main(narrations: int, workers: Sequence[int]) -> None:
    """Run every number of workers on one server and print the table."""
    print(f"{os.cpu_count()} cores, {narrations} narrations of {CHUNKS} chunks, {JOB_SECONDS:g} s a job")
    print("workers   seconds   narrations/min   ratio")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-out-")))
        os.environ["PREFECT_HOME"] = str(home / "prefect")
        deployed = deploy(stack, start_servers(stack, home / "server"), home)
        deployed.endpoint.result_delay = JOB_SECONDS
        first = 0.0
        for count in workers:
            taken = measure(deployed, count, narrations)
            first = first or taken
            rate = 60 * narrations / taken
            print(f"{count:7} {taken:9.1f} {rate:16.1f} {first / taken:7.2f}", flush=True)
        print(f"most jobs in flight at the endpoint: {deployed.endpoint.most_in_flight}")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(numbers[0] if numbers else 8, numbers[1:] or (1, 2, 4))
