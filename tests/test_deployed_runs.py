"""Runs of the deployments that fail, are cancelled or killed, and a manifest read while they replace it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from support.deployed_scripts import script, store_script, texts_of, wait_for
from support.deployments import Deployed, runs_below, worker_of

pytestmark = pytest.mark.timeout(900)  # three processes share two cores, and each run is a process more


@pytest.fixture(scope="module", autouse=True)
def worker(deployed: Deployed) -> Iterator[None]:
    """One worker, started as in docs/operations.md."""
    with worker_of(deployed, "worker"):
        yield


@dataclass
class TroubledRuns:
    """The ids of four runs that go on at the same time, by what happens to them."""

    failed: str
    cancelled: str
    killed: str
    frozen: str


@pytest.fixture(scope="module")
def troubled(deployed: Deployed) -> Iterator[TroubledRuns]:
    """The worker refuses a chunk of the first; the others are to be interrupted with a job in flight."""
    endpoint = deployed.endpoint
    endpoint.refused_texts.add("paragraph 2 of the script called refused")
    endpoint.held_texts |= {"called cancelled", "called killed", "called frozen"}
    yield TroubledRuns(
        *(
            deployed.start("narrate", script=store_script(deployed, name), narration_id=name)
            for name in ("refused", "cancelled", "killed", "frozen")
        )
    )
    endpoint.reset()


def test_retrying_a_run_synthesizes_only_the_failed_chunk(deployed: Deployed, troubled: TroubledRuns) -> None:
    """The run says which chunk failed and how to retry; the retry makes that chunk and publishes."""
    run = deployed.finished(troubled.failed)
    assert run["state_type"] == "FAILED"
    assert "1 of 3 chunks failed, 2 are stored: chunk 2:" in run["state"]["message"]
    (summary, *_) = deployed.artifacts("summary-refused-draft")
    assert f"press Retry on this run, or `prefect flow-run retry {run['id']}`" in summary["data"]
    assert deployed.store.manifests.read("refused-draft") is None
    assert deployed.endpoint.count_submitted("called refused") == 3

    deployed.endpoint.refused_texts.clear()
    deployed.move(troubled.failed, "SCHEDULED", "AwaitingRetry")  # as the UI's button does
    deployed.until(troubled.failed, lambda now: now["run_count"] == 2)
    assert deployed.finished(troubled.failed)["state_type"] == "COMPLETED"
    assert deployed.endpoint.submitted.count(script("refused").split("\n\n")[1]) == 2
    assert deployed.endpoint.count_submitted("called refused") == 4
    rows = json.loads(deployed.artifacts("chunks-refused-draft")[0]["data"])
    assert [row["state"] for row in rows] == ["cached", "synthesized", "cached"]


@pytest.fixture(scope="module")
def frozen(deployed: Deployed, troubled: TroubledRuns) -> str:
    """A run that is cancelled after its process was suspended; Prefect kills the process after a while."""
    wait_for(deployed, lambda: deployed.endpoint.in_flight("called frozen"))
    for process in runs_below(os.getpid())[troubled.frozen]:
        process.suspend()
    deployed.move(troubled.frozen, "CANCELLING", "Cancelling")
    return troubled.frozen


@pytest.mark.usefixtures("frozen")  # Prefect takes half a minute to end it, while the next tests run
def test_cancelling_a_run_cancels_its_jobs(deployed: Deployed, troubled: TroubledRuns) -> None:
    """Its jobs in flight are cancelled, and those of other runs are not."""
    endpoint = deployed.endpoint
    wait_for(deployed, lambda: endpoint.in_flight("called cancelled"))
    wait_for(deployed, lambda: endpoint.in_flight("called killed"))
    deployed.move(troubled.cancelled, "CANCELLING", "Cancelling")
    assert deployed.finished(troubled.cancelled)["state_type"] == "CANCELLED"
    assert endpoint.in_flight("called cancelled") == 0
    assert endpoint.count_cancelled("called cancelled") == 1
    assert endpoint.in_flight("called killed") == 1


def test_the_jobs_of_a_killed_run_are_resumed_and_not_paid_again(
    deployed: Deployed, troubled: TroubledRuns
) -> None:
    """The process dies with a job in flight; the run crashes, is scheduled again, and takes its result."""
    endpoint = deployed.endpoint
    wait_for(deployed, lambda: endpoint.in_flight("called killed"))
    for process in runs_below(os.getpid())[troubled.killed]:
        process.kill()
    deployed.until(troubled.killed, lambda now: now["run_count"] == 2)
    endpoint.held_texts.discard("called killed")
    run = deployed.finished(troubled.killed)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert sorted(text for text in endpoint.submitted if "called killed" in text) == sorted(
        texts_of("killed")
    )


def test_cancelling_a_run_whose_process_is_dead_cancels_its_jobs(deployed: Deployed, frozen: str) -> None:
    """The hook is called with the run's settings, though the worker was started with none."""
    run = deployed.finished(frozen)
    assert run["state_type"] == "CANCELLED", run["state"]
    assert deployed.endpoint.in_flight("called frozen") == 0
    assert deployed.endpoint.count_cancelled("called frozen") == 1
    assert not [record for record in deployed.store.jobs.list() if record.run == frozen]


def test_readers_see_the_old_narration_or_the_new_one(deployed: Deployed) -> None:
    """While two retakes at once replace a manifest in S3, each read is complete and its files exist."""
    first = deployed.start("narrate", script=store_script(deployed, "read"), narration_id="read")
    assert deployed.finished(first)["state_type"] == "COMPLETED"
    with reading(deployed, "read-draft") as manifests:
        runs = [deployed.start("retake", narration_id="read", chunks=[chunk]) for chunk in (1, 3)]
        for run in runs:
            assert deployed.finished(run)["state_type"] == "COMPLETED"
    takes = [tuple(chunk["take"] for chunk in manifest["chunks"]) for manifest in manifests]
    assert takes[0] == (1, 1, 1)
    assert takes[-1] == (2, 1, 2)
    # Between them is that of the retake that published first, if a read was in time for it.
    assert set(takes) - {takes[0], takes[-1]} in ({(2, 1, 1)}, {(1, 1, 2)}, set())
    assert takes == sorted(takes)
    for manifest in {manifest["fingerprint"]: manifest for manifest in manifests}.values():
        assert all(deployed.store.files.has(entry["key"], entry["size"]) for entry in manifest["files"])


@contextmanager
def reading(deployed: Deployed, narration_id: str) -> Iterator[list[dict[str, Any]]]:
    """Read the manifest again and again until the block ends."""
    manifests = [deployed.manifest(narration_id)]
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.05):
            manifests.append(deployed.manifest(narration_id))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield manifests
    finally:
        done.set()
        reader.join()
        manifests.append(deployed.manifest(narration_id))
