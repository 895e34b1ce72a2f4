"""Ten narrations at once on three Prefect workers and PostgreSQL, and one worker that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from support.deployments import FINAL, SLOTS, Deployed, runs_below, worker_of

NARRATIONS = 10
SHARED = [
    f"Every narration of the series says paragraph {number} in the very same words as all of the others."
    for number in (1, 2)
]
OWN = "This is paragraph {} of narration {} of the series, and no other narration says these words."
END_SECONDS = 400.0  # for all runs, on a loaded machine
CLAIM_SECONDS = 90.0  # without a process, after which a claimed run belonged to the dead worker


def script(number: int) -> list[str]:
    """The paragraphs of a script, a chunk each: the shared ones are the second and the last."""
    own = [OWN.format(paragraph, number) for paragraph in (1, 2, 3)]
    return [own[0], SHARED[0], *own[1:], SHARED[1]]


@pytest.mark.timeout(600)
def test_ten_narrations_on_three_workers_survive_the_death_of_one(deployed: Deployed) -> None:
    """All are published, each text is paid once, and the concurrency limit holds."""
    endpoint = deployed.endpoint
    endpoint.reset()
    endpoint.result_delay = 2.0  # s, so that many jobs are in flight at once
    with three_workers(deployed) as third:
        runs = [
            deployed.start("narrate", narration_id=f"series-{number}", text="\n\n".join(script(number)))
            for number in range(NARRATIONS)
        ]
        orphans = kill_worker_with_a_job(deployed, third.pid)
        end_states = finish_all(deployed, runs, orphans)
    assert end_states == ["COMPLETED"] * NARRATIONS
    for number in range(NARRATIONS):
        manifest = deployed.manifest(f"series-{number}-draft")
        assert [chunk["text"] for chunk in manifest["chunks"]] == script(number)
    jobs = Counter(
        text for text in endpoint.submitted if "of the series" in text
    )  # jobs of another test may still run
    assert set(jobs) == {text for number in range(NARRATIONS) for text in script(number)}
    # Twice only where two runs submit at the same moment, or a run died before it recorded its job.
    assert jobs.total() <= len(jobs) + 2 * len(SHARED) + 3, jobs.most_common(8)
    assert 1 < endpoint.most_in_flight <= SLOTS


@contextmanager
def three_workers(deployed: Deployed) -> Iterator[subprocess.Popen[bytes]]:
    """Three workers with room for four runs each; the third of them."""
    with (
        worker_of(deployed, "worker", "--limit", "4"),
        worker_of(deployed, "second", "--limit", "4"),
        worker_of(deployed, "third", "--limit", "4") as third,
    ):
        yield third


def kill_worker_with_a_job(deployed: Deployed, worker: int) -> set[str]:
    """Kill a worker and its runs once one of them has submitted a job; the ids of the runs."""
    deadline = time.monotonic() + END_SECONDS
    while not (below := runs_below(worker)) or not any_submitted_a_job(deployed, below):
        assert time.monotonic() < deadline, deployed.log()
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)  # first, or it would report the dead runs to the server
    for process in (process for each in below.values() for process in each):
        process.kill()
    return set(below)


def finish_all(deployed: Deployed, runs: list[str], orphans: set[str]) -> list[str]:
    """Wait until all runs have ended; their states. Sets the states that automations set after minutes.

    A run of the dead worker that had begun becomes crashed, and the server's own automation schedules
    it again. One that a worker claimed and that has no process is scheduled again here.
    """
    deadline, claimed = time.monotonic() + END_SECONDS, dict.fromkeys(runs, 0.0)
    while True:
        now = {run: deployed.run(run) for run in runs}
        alive = runs_below(os.getpid())
        for run, state in ((run, now[run]["state_type"]) for run in runs if run not in alive):
            if state == "RUNNING" and run in orphans:
                deployed.move(run, "CRASHED", "Crashed")
                orphans.discard(run)
            waiting = state == "PENDING"
            claimed[run] = claimed[run] or time.monotonic() if waiting else 0.0
            if waiting and time.monotonic() - claimed[run] > CLAIM_SECONDS:
                deployed.move(run, "SCHEDULED", "AwaitingRetry")
        if all(each["state_type"] in FINAL - {"CRASHED"} for each in now.values()):
            return [str(each["state_type"]) for each in now.values()]
        assert time.monotonic() < deadline, {each["name"]: each["state"] for each in now.values()}
        time.sleep(0.5)


def any_submitted_a_job(deployed: Deployed, runs: Iterable[str]) -> bool:
    """Whether one of these runs has submitted a job."""
    numbers = [deployed.run(run)["parameters"]["narration_id"].removeprefix("series-") for run in runs]
    return any(deployed.endpoint.count_submitted(f"of narration {number} of") for number in numbers)
