"""The deployments as people and programs use them: asked for, refused, retried, cancelled, interrupted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.deployments import ROOT, Deployed, Run, runs_below, worker_of
from support.prefect_servers import prefect_env
from support.stores import BUCKET, plain_client, server

from narration.store.layout import manifest_key

pytestmark = pytest.mark.timeout(900)  # three processes share two cores, and each run is a process more

FLOWS = ("narrate", "retake", "review", "sweep", "prune")
START = 300.0  # s until a run's process is at work, on a loaded machine


def script(name: str, paragraphs: int = 3) -> str:
    """A script that shares no sentence with another of these: one chunk a paragraph."""
    lines = [
        f"This is paragraph {number} of the script called {name}, and it says nothing else of importance."
        for number in range(1, paragraphs + 1)
    ]
    return "\n\n".join(lines) + "\n"


def texts_of(name: str) -> list[str]:
    """The chunks of the script of that name."""
    return script(name).strip().split("\n\n")


def stored(deployed: Deployed, name: str, paragraphs: int = 3) -> str:
    """A script in the store; its reference."""
    return deployed.store.scripts.put(script(name, paragraphs).encode(), ".md")


def wait_for(deployed: Deployed, reached: Any, seconds: float = START) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, deployed.log()
        time.sleep(0.1)


# Asked for


SCHEDULED = "scheduled-draft"


@pytest.fixture(scope="module", autouse=True)
def worker(deployed: Deployed) -> Iterator[None]:
    """One worker, as the README starts it."""
    with worker_of(deployed, "worker"):
        yield


@pytest.fixture(scope="module", autouse=True)
def schedule(deployed: Deployed) -> Iterator[str]:
    """The id of a schedule that sweeps every minute, and a script in the inbox for it."""
    key = "deployed/inbox/scheduled.md"
    plain_client(server("moto")).put_object(Bucket=BUCKET, Key=key, Body=script("scheduled").encode())
    every_minute = {"schedule": {"cron": "* * * * *"}, "parameters": {"settle_seconds": 1}}
    path = f"/deployments/{deployed.deployment('sweep')['id']}/schedules"
    (made,) = deployed.post(path, [every_minute])
    yield str(made["id"])
    deployed.http.delete(f"{path}/{made['id']}")


@dataclass
class Asked:
    """One narration asked for in each of the ways that other programs have, all at once; run ids by way."""

    runs: dict[str, list[str]] = field(default_factory=dict)
    agent: subprocess.Popen[str] | None = None


@pytest.fixture(scope="module")
def asked(deployed: Deployed) -> Asked:
    """Every way in, twice where it matters that the same request is one run."""
    asked = Asked()
    asked.agent = video_agent(deployed, "agent")
    parameters = {"script": stored(deployed, "python"), "narration_id": "by-python"}
    with temporary_settings({PREFECT_API_URL: deployed.api_url}):
        for _ in range(2):
            run = run_deployment("narrate/narrate", parameters=parameters, idempotency_key="one", timeout=0)
            assert isinstance(run, FlowRun)
            asked.runs.setdefault("python", []).append(str(run.id))
    for _ in range(2):
        answer = deployed.create("narrate", key="two", text=script("http"), narration_id="by-http")
        asked.runs.setdefault("http", []).append(str(answer.raise_for_status().json()["id"]))
    command = ["-m", "prefect", "deployment", "run", "narrate/narrate"]
    given = [f"--param=script={stored(deployed, 'cli')}", "--param=narration_id=by-cli"]
    done = deployed.command(*command, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    asked.runs["cli"] = [line.split()[-1] for line in done.stdout.splitlines() if "UUID:" in line]
    return asked


def video_agent(deployed: Deployed, name: str, *options: str) -> subprocess.Popen[str]:
    """The example as a process of its own, asking for the script of that name, a file, as `by-NAME`."""
    path = deployed.home / f"{name}.md"
    path.write_text(script(name), encoding="utf-8")
    example = ROOT / "examples" / "video_agent.py"
    return subprocess.Popen(
        [sys.executable, str(example), str(path), f"by-{name}", *options],
        env=prefect_env(deployed.home, deployed.api_url, **deployed.env),
        cwd=deployed.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("way", ["python", "http", "cli"])
def test_a_narration_asked_for_is_published(deployed: Deployed, asked: Asked, way: str) -> None:
    """By Python, by HTTP, from the command line: one run for one request, named after its narration."""
    first, *others = asked.runs[way]
    assert set(others) <= {first}
    run = deployed.finished(first)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["name"] == f"by-{way}"
    manifest = deployed.manifest(f"by-{way}-draft")
    assert [chunk["source_text"] for chunk in manifest["chunks"]] == texts_of(way)
    assert deployed.endpoint.count_submitted(f"called {way},") == 3


def test_video_agent_waits_for_its_manifest(deployed: Deployed, asked: Asked) -> None:
    """The example ends with the manifest's essentials; asked again, it finds what is done."""
    assert asked.agent is not None
    out, err = asked.agent.communicate(timeout=240)
    assert asked.agent.returncode == 0, err
    essentials = json.loads(out)
    manifest = deployed.manifest("by-agent-draft")
    assert essentials["duration"] == manifest["duration"]
    assert deployed.store.files.has(essentials["audio"], manifest["files"][0]["size"])
    again = video_agent(deployed, "agent")
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert json.loads(out) == essentials


def test_the_event_carries_the_manifests_address(deployed: Deployed, asked: Asked) -> None:
    """`narration.published` leads to the stable address, for whoever listens to events."""
    deployed.finished(asked.runs["http"][0])
    wanted = {"filter": {"event": {"name": ["narration.published"]}}, "limit": 50}

    def told() -> list[str]:
        events = deployed.post("/events/filter", wanted)["events"]
        return [e["payload"]["manifest"] for e in events if e["resource"]["prefect.resource.name"] == NAMED]

    wait_for(deployed, told, 30)
    assert told() == [f"{deployed.env['NARRATION_STORE']}/{manifest_key(NAMED)}"]


NAMED = "by-http-draft"


def test_a_person_sees_what_came_out(deployed: Deployed, asked: Asked) -> None:
    """A progress that reached its end, a row for each chunk, and a summary with links."""
    deployed.finished(asked.runs["http"][0])
    (progress, *_) = deployed.artifacts(f"progress-{NAMED}")
    assert progress["data"] == 100
    (chunks, *_) = deployed.artifacts(f"chunks-{NAMED}")
    rows = json.loads(chunks["data"])
    assert [(row["chunk"], row["state"], row["take"]) for row in rows] == [
        (number, "synthesized", 1) for number in (1, 2, 3)
    ]
    (summary, *_) = deployed.artifacts(f"summary-{NAMED}")
    assert "draft voice" in summary["data"]
    page = next(entry for entry in deployed.manifest(NAMED)["files"] if entry["kind"] == "html")
    assert f"`{deployed.env['NARRATION_STORE']}/{page['key']}`" in summary["data"]
    link = re.search(r"review page: \[open\]\((\S+)\)", summary["data"])
    assert link is not None
    assert httpx.get(link[1]).headers["content-type"] == "text/html; charset=utf-8"
    assert deployed.env["RUNPOD_API_KEY"] not in json.dumps([progress, chunks, summary])


# Refused


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("narrate", {"narration_id": "Not A Slug", "text": "Words."}),
    ("narrate", {"text": "A narration without an id."}),
    ("narrate", {"narration_id": "one", "script": 7}),
    ("narrate", {"narration_id": "one", "text": "Words.", "engine": "other"}),
    ("narrate", {"narration_id": "one", "text": "Words.", "loudness": "loud"}),
    ("narrate", {"narration_id": "one", "text": "Words.", "max_cost": 0}),
    ("narrate", {"narration_id": "one", "text": "w" * 100_001}),
    ("retake", {"narration_id": "one", "chunks": []}),
    ("retake", {"narration_id": "one", "chunks": [0]}),
    ("retake", {"narration_id": "One!", "chunks": [1]}),
    ("retake", {"narration_id": "one", "chunks": ["all"]}),
    ("retake", {"narration_id": "one", "chunks": [1], "take": 0}),
    ("retake", {"narration_id": "one", "chunks": [1], "seed": -1}),
    ("review", {"narration_id": "One!"}),
    ("sweep", {"settle_seconds": -1}),
    ("sweep", {"max_cost": 0}),
    ("prune", {"grace_days": 0}),
]


def test_wrong_parameters_are_refused_before_there_is_a_run(deployed: Deployed) -> None:
    """The server itself says no, by the deployment's schema, and names the field."""
    asked_for = {
        "deployments": {"name": {"any_": ["narrate", "retake", "review"]}}
    }  # others come by the clock
    before = deployed.post("/flow_runs/count", asked_for)
    for flow, parameters in WRONG:
        answer = deployed.create(flow, **parameters)
        assert answer.status_code in {409, 422}, (flow, parameters, answer.text)
    assert deployed.post("/flow_runs/count", asked_for) == before


def test_every_parameter_explains_itself_in_the_form(deployed: Deployed) -> None:
    """The UI makes its form of this schema: a description for each, a default for all but the needed."""
    needed = {
        "narrate": {"narration_id"},
        "retake": {"narration_id", "chunks"},
        "review": {"narration_id"},
        "sweep": set(),
        "prune": set(),
    }
    for flow in FLOWS:
        deployment = deployed.deployment(flow)
        schema = deployment["parameter_openapi_schema"]
        assert deployment["description"]
        assert deployment["enforce_parameter_schema"]
        assert set(schema.get("required", [])) == needed[flow]
        for name, field_schema in schema["properties"].items():
            assert len(field_schema.get("description", "")) > 10, (flow, name)


def test_sweep_and_prune_come_by_themselves_and_one_at_a_time(deployed: Deployed, schedule: str) -> None:
    """Each has an active schedule, and a second one is dropped while the first still runs."""
    for flow in ("sweep", "prune"):
        deployment = deployed.deployment(flow)
        (own,) = (found for found in deployment["schedules"] if found["id"] != schedule)
        assert own["active"]
        assert own["schedule"]["cron"]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert deployment["parameters"].get("really_delete") is not True


# Retried, cancelled, interrupted


@dataclass
class Trouble:
    """Four runs that each meet something, at the same time: ids by what they meet."""

    failed: str
    cancelled: str
    killed: str
    frozen: str


@pytest.fixture(scope="module")
def trouble(deployed: Deployed) -> Iterator[Trouble]:
    """A chunk that the worker refuses; runs to cancel, kill and freeze, each with a job in flight."""
    endpoint = deployed.endpoint
    endpoint.refused_texts.add("paragraph 2 of the script called spoiled")
    endpoint.held_texts |= {"called cancelled", "called killed", "called frozen"}
    yield Trouble(
        *(
            deployed.start("narrate", script=stored(deployed, name), narration_id=name)
            for name in ("spoiled", "cancelled", "killed", "frozen")
        )
    )
    endpoint.reset()


def test_a_failed_chunk_is_made_alone_by_the_retry_button(deployed: Deployed, trouble: Trouble) -> None:
    """The run says which chunk failed and what to press; pressed, it makes that chunk and publishes."""
    run = deployed.finished(trouble.failed)
    assert run["state_type"] == "FAILED"
    assert "1 of 3 chunks failed, 2 are stored: chunk 2:" in run["state"]["message"]
    (summary, *_) = deployed.artifacts("summary-spoiled-draft")
    assert f"press Retry on this run, or `prefect flow-run retry {run['id']}`" in summary["data"]
    assert deployed.store.manifests.read("spoiled-draft") is None
    assert deployed.endpoint.count_submitted("called spoiled") == 3

    deployed.endpoint.refused_texts.clear()
    deployed.move(trouble.failed, "SCHEDULED", "AwaitingRetry")  # what the button sends
    deployed.until(trouble.failed, lambda now: now["run_count"] == 2)
    assert deployed.finished(trouble.failed)["state_type"] == "COMPLETED"
    assert deployed.endpoint.submitted.count(script("spoiled").split("\n\n")[1]) == 2
    assert deployed.endpoint.count_submitted("called spoiled") == 4
    rows = json.loads(deployed.artifacts("chunks-spoiled-draft")[0]["data"])
    assert [row["state"] for row in rows] == ["cached", "synthesized", "cached"]


@pytest.fixture(scope="module")
def frozen(deployed: Deployed, trouble: Trouble) -> str:
    """A run that is cancelled when its process cannot hear of it any more; Prefect kills it after a while."""
    wait_for(deployed, lambda: deployed.endpoint.in_flight("called frozen"))
    for process in runs_below(os.getpid())[trouble.frozen]:
        process.suspend()
    deployed.move(trouble.frozen, "CANCELLING", "Cancelling")
    return trouble.frozen


@pytest.mark.usefixtures("frozen")  # whose end takes half a minute, in which the next tests pass
def test_cancelling_a_run_cancels_its_jobs(deployed: Deployed, trouble: Trouble) -> None:
    """What is in flight is not paid to its end, and other runs' jobs are left alone."""
    endpoint = deployed.endpoint
    wait_for(deployed, lambda: endpoint.in_flight("called cancelled"))
    wait_for(deployed, lambda: endpoint.in_flight("called killed"))
    deployed.move(trouble.cancelled, "CANCELLING", "Cancelling")
    assert deployed.finished(trouble.cancelled)["state_type"] == "CANCELLED"
    assert endpoint.in_flight("called cancelled") == 0
    assert endpoint.count_cancelled("called cancelled") == 1
    assert endpoint.in_flight("called killed") == 1


def test_a_killed_runs_jobs_are_taken_up_and_not_paid_again(deployed: Deployed, trouble: Trouble) -> None:
    """The process dies with a job in flight; the run crashes, comes back by itself, and fetches that job."""
    endpoint = deployed.endpoint
    wait_for(deployed, lambda: endpoint.in_flight("called killed"))
    for process in runs_below(os.getpid())[trouble.killed]:
        process.kill()
    deployed.until(trouble.killed, lambda now: now["run_count"] == 2)
    endpoint.held_texts.discard("called killed")
    run = deployed.finished(trouble.killed)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert sorted(text for text in endpoint.submitted if "called killed" in text) == sorted(
        texts_of("killed")
    )


def test_cancelling_a_run_whose_process_is_dead_cancels_its_jobs(deployed: Deployed, frozen: str) -> None:
    """The hook is called in the run's environment, though the worker knows only the server's address."""
    run = deployed.finished(frozen)
    assert run["state_type"] == "CANCELLED", run["state"]
    assert deployed.endpoint.in_flight("called frozen") == 0
    assert deployed.endpoint.count_cancelled("called frozen") == 1
    assert not [record for record in deployed.store.jobs.list() if record.run == frozen]


# Read while it is replaced


def test_readers_see_the_old_narration_or_the_new_one(deployed: Deployed) -> None:
    """While two retakes at once replace a manifest in S3, each read is whole, and its files are there."""
    first = deployed.start("narrate", script=stored(deployed, "read"), narration_id="read")
    assert deployed.finished(first)["state_type"] == "COMPLETED"
    with reading(deployed, "read-draft") as seen:
        runs = [deployed.start("retake", narration_id="read", chunks=[chunk]) for chunk in (1, 3)]
        for run in runs:
            assert deployed.finished(run)["state_type"] == "COMPLETED"
    takes = [tuple(chunk["take"] for chunk in manifest["chunks"]) for manifest in seen]
    assert takes[0] == (1, 1, 1)
    assert takes[-1] == (2, 1, 2)
    # In between that of whoever came first, if the machine was fast enough to look.
    assert set(takes) - {takes[0], takes[-1]} in ({(2, 1, 1)}, {(1, 1, 2)}, set())
    assert takes == sorted(takes)
    for manifest in {manifest["fingerprint"]: manifest for manifest in seen}.values():
        assert all(deployed.store.files.has(entry["key"], entry["size"]) for entry in manifest["files"])


@contextmanager
def reading(deployed: Deployed, narration_id: str) -> Iterator[list[dict[str, Any]]]:
    """Read the manifest over and over while the block lasts."""
    seen = [deployed.manifest(narration_id)]
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.05):
            seen.append(deployed.manifest(narration_id))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()
        seen.append(deployed.manifest(narration_id))


# By the clock


def test_a_script_in_the_inbox_is_narrated_by_the_clock(deployed: Deployed, schedule: str) -> None:
    """Nobody asked for it but the schedule: the sweep's run is the scheduler's."""
    wait_for(deployed, lambda: deployed.store.manifests.read(SCHEDULED))
    sweeps = deployed.deployment("sweep")["id"]
    deployed.http.delete(f"/deployments/{sweeps}/schedules/{schedule}")
    assert [chunk["text"] for chunk in deployed.manifest(SCHEDULED)["chunks"]] == texts_of("scheduled")

    def swept() -> list[Run]:
        chosen = {"deployments": {"id": {"any_": [sweeps]}}, "sort": "START_TIME_ASC"}
        runs = deployed.post("/flow_runs/filter", chosen)
        return [run for run in runs if run["state_type"] == "COMPLETED"]

    wait_for(deployed, swept)
    assert swept()[0]["auto_scheduled"]
    told = [row for page in deployed.artifacts("sweep") for row in json.loads(page["data"])]
    assert {"script": "inbox/scheduled.md", "outcome": "narrated as scheduled\\-draft"} in told
