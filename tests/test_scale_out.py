"""Three Prefect workers, one PostgreSQL, ten narrations at once, and a worker that dies in the middle."""

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
END = 400.0  # s, on a loaded machine
CLAIM = 90.0  # s without a process, after which a claimed run was the dead worker's


def script(number: int) -> list[str]:
    """Paragraphs, a chunk each: what all share comes after the first and at the end."""
    own = [OWN.format(paragraph, number) for paragraph in (1, 2, 3)]
    return [own[0], SHARED[0], *own[1:], SHARED[1]]


@pytest.mark.timeout(600)
def test_ten_narrations_on_three_workers_survive_the_death_of_one(deployed: Deployed) -> None:
    """All are published, each text is paid once, the endpoint's limit holds, and nothing stored is redone."""
    endpoint = deployed.endpoint
    endpoint.reset()
    endpoint.result_delay = 2.0  # s a job stays in flight, so that the limit has something to limit
    with three_workers(deployed) as third:
        runs = [
            deployed.start("narrate", narration_id=f"series-{number}", text="\n\n".join(script(number)))
            for number in range(NARRATIONS)
        ]
        dead = kill_at_work(deployed, third.pid)
        ends = all_finished(deployed, runs, dead)
    assert ends == ["COMPLETED"] * NARRATIONS
    for number in range(NARRATIONS):
        manifest = deployed.manifest(f"series-{number}-draft")
        assert [chunk["text"] for chunk in manifest["chunks"]] == script(number)
    jobs = Counter(text for text in endpoint.submitted if "of the series" in text)  # another's may still run
    assert set(jobs) == {text for number in range(NARRATIONS) for text in script(number)}
    # Twice only where two runs ask in the same moment, or a run died between submitting and noting it.
    assert jobs.total() <= len(jobs) + 2 * len(SHARED) + 3, jobs.most_common(8)
    assert 1 < endpoint.most_in_flight <= SLOTS


@contextmanager
def three_workers(deployed: Deployed) -> Iterator[subprocess.Popen[bytes]]:
    """Three workers, none of which can take all narrations to itself; the third of them."""
    with (
        worker_of(deployed, "worker", "--limit", "4"),
        worker_of(deployed, "second", "--limit", "4"),
        worker_of(deployed, "third", "--limit", "4") as third,
    ):
        yield third


def kill_at_work(deployed: Deployed, worker: int) -> set[str]:
    """Kill a worker with its runs once one of them has a job; the runs."""
    deadline = time.monotonic() + END
    while not (mine := runs_below(worker)) or not any_job_of(deployed, mine):
        assert time.monotonic() < deadline, deployed.log()
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)  # first, or it would tell the server itself
    for process in (process for each in mine.values() for process in each):
        process.kill()
    return set(mine)


def all_finished(deployed: Deployed, runs: list[str], dead: set[str]) -> list[str]:
    """How each run ended. Says what the server's automations say, without their minutes of patience.

    A run of the dead worker that had begun is crashed, which another automation answers for
    real; one that was claimed and has no process is handed on.
    """
    deadline, claimed = time.monotonic() + END, dict.fromkeys(runs, 0.0)
    while True:
        now = {run: deployed.run(run) for run in runs}
        alive = runs_below(os.getpid())
        for run, state in ((run, now[run]["state_type"]) for run in runs if run not in alive):
            if state == "RUNNING" and run in dead:
                deployed.move(run, "CRASHED", "Crashed")
                dead.discard(run)
            waiting = state == "PENDING"
            claimed[run] = claimed[run] or time.monotonic() if waiting else 0.0
            if waiting and time.monotonic() - claimed[run] > CLAIM:
                deployed.move(run, "SCHEDULED", "AwaitingRetry")
        if all(each["state_type"] in FINAL - {"CRASHED"} for each in now.values()):
            return [str(each["state_type"]) for each in now.values()]
        assert time.monotonic() < deadline, {each["name"]: each["state"] for each in now.values()}
        time.sleep(0.5)


def any_job_of(deployed: Deployed, runs: Iterable[str]) -> bool:
    """Whether one of these runs has had a job."""
    numbers = [deployed.run(run)["parameters"]["narration_id"].removeprefix("series-") for run in runs]
    return any(deployed.endpoint.count_submitted(f"of narration {number} of") for number in numbers)
