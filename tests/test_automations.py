"""The Prefect server's automations for runs whose process has died, on a real server with PostgreSQL."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import EventTrigger, Posture
from support.prefect_servers import running_worker

from infra.automations import RUN_TAG, automations
from infra.prefect_setup import WORK_POOL, find_changes
from narration.settings import Settings

SHORTEST = timedelta(seconds=10)  # the shortest period that Prefect takes
SHORT_TIMEOUTS = automations(
    heartbeat_timeout=SHORTEST,
    reschedule_delay=SHORTEST,
    start_timeout=SHORTEST,
    cancellation_timeout=SHORTEST,
)
WAIT_SECONDS = 60.0  # until the server has acted, on a loaded machine


class Runs:
    """Runs of a deployment with these tags, whose states a test sets as a worker would."""

    def __init__(self, api_url: str, tags: list[str]) -> None:
        self._http = httpx.Client(base_url=api_url, timeout=30)
        flow = self._post("/flows/", {"name": f"flow-{uuid.uuid4()}"})["id"]
        deployment = {"name": "deployment", "flow_id": flow, "tags": tags}
        self._deployment = self._post("/deployments/", deployment)["id"]
        self._tags = tags

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def start(self, *states: str) -> str:
        """Create a run and set these states one after the other; returns the run's id."""
        run: str = self._post(f"/deployments/{self._deployment}/create_flow_run", {})["id"]
        self.set_states(run, *states)
        return run

    def set_states(self, run: str, *states: str) -> None:
        """Set these states one after the other."""
        for name in states:
            state = {"type": name.upper(), "name": name}
            response = self._post(f"/flow_runs/{run}/set_state", {"state": state})
            assert response["status"] == "ACCEPT", response

    def send_heartbeat(self, run: str) -> None:
        """Send the event that a flow's engine sends every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds."""
        tags = [
            {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
            for tag in self._tags
        ]
        event = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
            "related": tags,
        }
        self._http.post("/events", json=[event]).raise_for_status()

    def state(self, run: str) -> str:
        """The name of the run's present state."""
        name: str = self._http.get(f"/flow_runs/{run}").json()["state"]["name"]
        return name

    def history(self, run: str) -> list[str]:
        """The names of all states of the run, in order."""
        states = self._http.get("/flow_run_states/", params={"flow_run_id": run}).json()
        return [state["name"] for state in sorted(states, key=lambda state: str(state["timestamp"]))]

    def wait_for(self, run: str, name: str) -> None:
        """Return when the run has the state of this name."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.state(run) != name:
            assert time.monotonic() < deadline, f"{self.history(run)}, and not {name}"
            time.sleep(0.2)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._http.post(path, json=body)
        response.raise_for_status()
        document: dict[str, Any] = response.json()
        return document


@pytest.fixture
def narrations(
    request: pytest.FixtureRequest, api_url: str, prefect_client: SyncPrefectClient, tmp_path: Path
) -> Iterator[Runs]:
    """Runs tagged as narrations, on a server set up by the script with short timeouts."""
    settings = Settings(store=str(tmp_path), engine="draft")
    desired = getattr(request, "param", SHORT_TIMEOUTS)
    for change in find_changes(prefect_client, settings, {}, desired_automations=desired):
        change.apply()
    with Runs(api_url, [RUN_TAG]) as runs:
        yield runs


@pytest.fixture
def other_runs(api_url: str) -> Iterator[Runs]:
    """Runs on the same server that are no narrations."""
    with Runs(api_url, ["theirs"]) as runs:
        yield runs


def test_runs_whose_process_has_died_are_rescheduled_or_cancelled(narrations: Runs, other_runs: Runs) -> None:
    """Without a heartbeat: crashed and scheduled again. Not started: scheduled again. Cancelling: cancelled.

    Runs that send heartbeats, that have finished, or that are no narrations do not change. This is one
    test because each of these cases takes ten seconds of waiting.
    """
    silent = narrations.start("Pending", "Running")
    narrations.send_heartbeat(silent)
    silent_from_start = narrations.start("Pending", "Running")
    not_started = narrations.start("Pending")
    cancelling = narrations.start("Pending", "Running", "Cancelling")
    finished = narrations.start("Pending", "Running", "Completed")
    narrations.send_heartbeat(finished)  # as if it arrived late
    other = other_runs.start("Pending", "Running")
    other_runs.send_heartbeat(other)
    alive = narrations.start("Pending", "Running")

    expected = dict.fromkeys((silent, silent_from_start, not_started), "AwaitingRetry")
    expected[cancelling] = "Cancelled"
    deadline = time.monotonic() + WAIT_SECONDS
    while any(narrations.state(run) != name for run, name in expected.items()):
        assert time.monotonic() < deadline, [narrations.history(run) for run in expected]
        narrations.send_heartbeat(alive)
        time.sleep(0.5)

    assert narrations.history(silent) == ["Scheduled", "Pending", "Running", "Crashed", "AwaitingRetry"]
    assert narrations.history(silent_from_start) == narrations.history(silent)
    assert narrations.history(not_started) == ["Scheduled", "Pending", "AwaitingRetry"]
    assert narrations.history(cancelling) == ["Scheduled", "Pending", "Running", "Cancelling", "Cancelled"]
    assert narrations.history(finished) == ["Scheduled", "Pending", "Running", "Completed"]
    assert narrations.history(alive) == ["Scheduled", "Pending", "Running"]
    assert other_runs.history(other) == ["Scheduled", "Pending", "Running"]


def test_a_crashed_run_is_scheduled_again_only_after_a_while() -> None:
    """A worker with a limit ends itself when it gets a run again that it still counts as running."""
    [reschedule] = [one for one in automations() if one.name == "narration: a crashed run is scheduled again"]
    assert isinstance(reschedule.trigger, EventTrigger)
    assert reschedule.trigger.posture is Posture.Proactive
    assert reschedule.trigger.within >= timedelta(seconds=15)


def test_a_run_that_keeps_crashing_is_scheduled_again_three_times_only(narrations: Runs) -> None:
    """A run that crashes its process every time does not do so for ever."""
    run = narrations.start("Pending", "Running")
    for _ in range(3):
        narrations.set_states(run, "Crashed")
        narrations.wait_for(run, "AwaitingRetry")
        narrations.set_states(run, "Pending", "Running")
    narrations.set_states(run, "Crashed")
    later = narrations.start("Pending", "Running", "Crashed")
    narrations.wait_for(later, "AwaitingRetry")
    assert narrations.state(run) == "Crashed", "a run that crashed later was scheduled again first"
    assert narrations.history(run).count("AwaitingRetry") == 3


FLOW = """
import os, time
from pathlib import Path
from prefect import flow

@flow
def patient(folder: str) -> None:
    began = Path(folder, "began")
    first = not began.exists()
    began.with_suffix(".new").write_text(str(os.getpid()))
    began.with_suffix(".new").rename(began)
    if first:
        time.sleep(600)
"""


# A worker under load takes more than ten seconds to start a run, so the other timeouts stay long.
@pytest.mark.parametrize(
    "narrations",
    [automations(heartbeat_timeout=SHORTEST, reschedule_delay=SHORTEST)],
    indirect=True,
    ids=["short heartbeat timeout"],
)
def test_a_run_killed_with_its_worker_is_finished_by_another_worker(
    narrations: Runs, api_url: str, prefect_client: SyncPrefectClient, tmp_path: Path
) -> None:
    """A real worker and the process of its run are killed; another worker finishes the same run."""
    (tmp_path / "patient.py").write_text(FLOW)
    deployment = prefect_client.create_deployment(
        flow_id=prefect_client.create_flow_from_name("patient"),
        name="patient",
        path=str(tmp_path),
        entrypoint="patient.py:patient",
        work_pool_name=WORK_POOL,
        tags=[RUN_TAG],
    )
    parameters = {"folder": str(tmp_path)}
    run = prefect_client.create_flow_run_from_deployment(deployment, parameters=parameters).id
    began = tmp_path / "began"
    fast = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with running_worker(tmp_path / "first", api_url, WORK_POOL, **fast) as worker:
        deadline = time.monotonic() + WAIT_SECONDS
        while not began.exists():
            assert time.monotonic() < deadline, (tmp_path / "first" / "worker.log").read_text()
            time.sleep(0.1)
        os.kill(worker.pid, signal.SIGKILL)
        os.kill(int(began.read_text()), signal.SIGKILL)
        worker.wait()
    with running_worker(tmp_path / "second", api_url, WORK_POOL, **fast):
        narrations.wait_for(str(run), "Completed")
    history = [name for name in narrations.history(str(run)) if name != "Submitting"]
    assert history == [
        *("Scheduled", "Pending", "Running", "Crashed"),
        *("AwaitingRetry", "Pending", "Running", "Completed"),
    ]
