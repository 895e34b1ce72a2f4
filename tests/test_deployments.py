"""The deployments: runs requested in every way, wrong parameters refused, schedules, and what a run shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.deployed_scripts import script, store_script, texts_of, wait_for
from support.deployments import ROOT, Deployed, Run, worker_of
from support.prefect_servers import prefect_env
from support.stores import BUCKET, plain_client, server

from narration.store.layout import manifest_key

pytestmark = pytest.mark.timeout(900)  # three processes share two cores, and each run is a process more

FLOWS = ("narrate", "retake", "review", "sweep", "prune")
BY_HTTP = "by-http-draft"
SCHEDULED = "scheduled-draft"


@pytest.fixture(scope="module", autouse=True)
def worker(deployed: Deployed) -> Iterator[None]:
    """One worker, started as in docs/operations.md."""
    with worker_of(deployed, "worker"):
        yield


@pytest.fixture(scope="module", autouse=True)
def schedule(deployed: Deployed) -> Iterator[str]:
    """The id of a schedule that sweeps every minute; a script is in the inbox for it."""
    key = "deployed/inbox/scheduled.md"
    plain_client(server("moto")).put_object(Bucket=BUCKET, Key=key, Body=script("scheduled").encode())
    every_minute = {"schedule": {"cron": "* * * * *"}, "parameters": {"settle_seconds": 1}}
    path = f"/deployments/{deployed.deployment('sweep')['id']}/schedules"
    (schedule,) = deployed.post(path, [every_minute])
    yield str(schedule["id"])
    deployed.http.delete(f"{path}/{schedule['id']}")


# Requests


@dataclass
class Requests:
    """A narration requested in each way that programs have, all at once: the ids of the runs, by way."""

    runs: dict[str, list[str]] = field(default_factory=dict)
    agent: subprocess.Popen[str] | None = None


@pytest.fixture(scope="module")
def requests(deployed: Deployed) -> Requests:
    """Every way once; Python and HTTP twice, with the same idempotency key."""
    requests = Requests()
    requests.agent = video_agent(deployed, "agent")
    parameters = {"script": store_script(deployed, "python"), "narration_id": "by-python"}
    with temporary_settings({PREFECT_API_URL: deployed.api_url}):
        for _ in range(2):
            run = run_deployment("narrate/narrate", parameters=parameters, idempotency_key="one", timeout=0)
            assert isinstance(run, FlowRun)
            requests.runs.setdefault("python", []).append(str(run.id))
    for _ in range(2):
        answer = deployed.create("narrate", key="two", text=script("http"), narration_id="by-http")
        requests.runs.setdefault("http", []).append(str(answer.raise_for_status().json()["id"]))
    command = ["-m", "prefect", "deployment", "run", "narrate/narrate"]
    options = [f"--param=script={store_script(deployed, 'cli')}", "--param=narration_id=by-cli"]
    done = deployed.command(*command, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    requests.runs["cli"] = [line.split()[-1] for line in done.stdout.splitlines() if "UUID:" in line]
    return requests


def video_agent(deployed: Deployed, name: str, *options: str) -> subprocess.Popen[str]:
    """The example program, started to narrate the script called `name` from a file as `by-NAME`."""
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
def test_a_requested_narration_is_published(deployed: Deployed, requests: Requests, way: str) -> None:
    """By Python, by HTTP, from the command line: one run for one request, named after its narration."""
    first, *others = requests.runs[way]
    assert set(others) <= {first}
    run = deployed.finished(first)
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["name"] == f"by-{way}"
    manifest = deployed.manifest(f"by-{way}-draft")
    assert [chunk["source_text"] for chunk in manifest["chunks"]] == texts_of(way)
    assert deployed.endpoint.count_submitted(f"called {way},") == 3


def test_video_agent_waits_for_its_manifest(deployed: Deployed, requests: Requests) -> None:
    """The example prints the manifest's essentials; a second request for the same narration does too."""
    assert requests.agent is not None
    out, err = requests.agent.communicate(timeout=240)
    assert requests.agent.returncode == 0, err
    essentials = json.loads(out)
    manifest = deployed.manifest("by-agent-draft")
    assert essentials["duration"] == manifest["duration"]
    assert deployed.store.files.has(essentials["audio"], manifest["files"][0]["size"])
    again = video_agent(deployed, "agent")
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert json.loads(out) == essentials


def test_the_event_carries_the_manifests_address(deployed: Deployed, requests: Requests) -> None:
    """`narration.published` has the address of the manifest, which stays the same when it is replaced."""
    deployed.finished(requests.runs["http"][0])
    published = {"filter": {"event": {"name": ["narration.published"]}}, "limit": 50}

    def addresses() -> list[str]:
        events = deployed.post("/events/filter", published)["events"]
        return [e["payload"]["manifest"] for e in events if e["resource"]["prefect.resource.name"] == BY_HTTP]

    wait_for(deployed, addresses, 30)
    assert addresses() == [f"{deployed.env['NARRATION_STORE']}/{manifest_key(BY_HTTP)}"]


def test_a_run_shows_its_progress_chunks_and_summary(deployed: Deployed, requests: Requests) -> None:
    """A progress of 100 percent, a row for each chunk, and a summary with links."""
    deployed.finished(requests.runs["http"][0])
    (progress, *_) = deployed.artifacts(f"progress-{BY_HTTP}")
    assert progress["data"] == 100
    (chunks, *_) = deployed.artifacts(f"chunks-{BY_HTTP}")
    rows = json.loads(chunks["data"])
    assert [(row["chunk"], row["state"], row["take"]) for row in rows] == [
        (number, "synthesized", 1) for number in (1, 2, 3)
    ]
    (summary, *_) = deployed.artifacts(f"summary-{BY_HTTP}")
    assert "draft voice" in summary["data"]
    page = next(entry for entry in deployed.manifest(BY_HTTP)["files"] if entry["kind"] == "html")
    assert f"`{deployed.env['NARRATION_STORE']}/{page['key']}`" in summary["data"]
    link = re.search(r"review page: \[open\]\((\S+)\)", summary["data"])
    assert link is not None
    assert httpx.get(link[1]).headers["content-type"] == "text/html; charset=utf-8"
    assert deployed.env["RUNPOD_API_KEY"] not in json.dumps([progress, chunks, summary])


# Wrong parameters


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
    """The server refuses them by the deployment's schema, and names the field."""
    # The other deployments have schedules, so that their number of runs may change by itself.
    unscheduled = {"deployments": {"name": {"any_": ["narrate", "retake", "review"]}}}
    before = deployed.post("/flow_runs/count", unscheduled)
    for flow, parameters in WRONG:
        answer = deployed.create(flow, **parameters)
        assert answer.status_code in {409, 422}, (flow, parameters, answer.text)
    assert deployed.post("/flow_runs/count", unscheduled) == before


def test_every_parameter_is_described_in_the_form(deployed: Deployed) -> None:
    """The UI makes its form from this schema: each has a description, and all but the required a default."""
    required = {
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
        assert set(schema.get("required", [])) == required[flow]
        for name, field_schema in schema["properties"].items():
            assert len(field_schema.get("description", "")) > 10, (flow, name)


# Schedules


def test_sweep_and_prune_are_scheduled_and_run_one_at_a_time(deployed: Deployed, schedule: str) -> None:
    """Each has an active schedule, and a second run is dropped while the first still runs."""
    for flow in ("sweep", "prune"):
        deployment = deployed.deployment(flow)
        (own,) = (each for each in deployment["schedules"] if each["id"] != schedule)
        assert own["active"]
        assert own["schedule"]["cron"]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert deployment["parameters"].get("really_delete") is not True


def test_a_script_in_the_inbox_is_narrated_on_schedule(deployed: Deployed, schedule: str) -> None:
    """The sweep's run was created by Prefect's scheduler."""
    wait_for(deployed, lambda: deployed.store.manifests.read(SCHEDULED))
    sweeps = deployed.deployment("sweep")["id"]
    deployed.http.delete(f"/deployments/{sweeps}/schedules/{schedule}")
    assert [chunk["text"] for chunk in deployed.manifest(SCHEDULED)["chunks"]] == texts_of("scheduled")

    def completed_sweeps() -> list[Run]:
        query = {"deployments": {"id": {"any_": [sweeps]}}, "sort": "START_TIME_ASC"}
        runs = deployed.post("/flow_runs/filter", query)
        return [run for run in runs if run["state_type"] == "COMPLETED"]

    wait_for(deployed, completed_sweeps)
    assert completed_sweeps()[0]["auto_scheduled"]
    rows = [row for page in deployed.artifacts("sweep") for row in json.loads(page["data"])]
    assert {"script": "inbox/scheduled.md", "outcome": "narrated as scheduled\\-draft"} in rows
