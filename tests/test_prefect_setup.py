"""The Prefect server's setup, and what the server then does by itself, on a real one with PostgreSQL."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.workers.process import ProcessJobConfiguration
from support.postgres import running_postgres
from support.prefect_servers import running_server, running_worker

from infra.automations import RUN_TAG, automations
from infra.job_environment import job_environment
from infra.plan import ProvisioningChange
from infra.prefect_setup import WORK_POOL, main, plan
from infra.secret_blocks import block_name
from narration.errors import SettingsError
from narration.settings import Settings

SHORT = timedelta(seconds=10)  # the least that Prefect takes
IMPATIENT = automations(silence=SHORT, respite=SHORT, claim=SHORT, cancellation=SHORT)
PATIENCE = 60.0  # s a test waits for the server to act, on a loaded machine
ENVIRON = {
    "NARRATION_STORE": "s3://narrations/shelf",
    "NARRATION_CONTINUITY": "true",
    "NARRATION_CONCURRENCY": "64",
    "RUNPOD_HIGGS_ENDPOINT_ID": "ep1",
    "RUNPOD_API_KEY": "rpa_the_key_for_jobs",
    "VOICE_SAMPLE_URL": "https://voices.example/one.wav?signature=secret_signature",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_key",
}

Run = Callable[..., int]


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own: its automations would meddle with the runs of others."""
    granularity = {"PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S"}
    home = tmp_path_factory.mktemp("server")
    with running_postgres() as database, running_server(home, database, **granularity) as url:
        yield url


@pytest.fixture(scope="module")
def client(api_url: str) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(api_url) as opened:
        yield opened


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Mapping[str, str]], None]:
    """Make the settings in the environment exactly these."""
    monkeypatch.chdir(tmp_path)  # away from any .env

    def be(variables: Mapping[str, str]) -> None:
        for name in list(os.environ):
            if name.startswith(("NARRATION_", "RUNPOD_", "VOICE_", "AWS_")):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return be


@pytest.fixture
def run(
    api_url: str,
    tmp_path: Path,
    environ: Callable[[Mapping[str, str]], None],
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run the script with these settings; what it printed before is forgotten."""

    def run_once(*flags: str, url: str | None = api_url, **variables: str) -> int:
        environ(ENVIRON | variables)
        capsys.readouterr()
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path}):
            return main(list(flags))

    return run_once


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    """No pool, blocks, limits or automations at the start of a test that looks at a server."""
    if "api_url" not in request.fixturenames:
        return
    client: SyncPrefectClient = request.getfixturevalue("client")
    for pool in client.read_work_pools():
        client.delete_work_pool(pool.name)
    for limit in client.read_global_concurrency_limits():
        client.delete_global_concurrency_limit_by_name(limit.name)
    for automation in client.read_automations():
        client.delete_automation(automation.id)
    for block in client.read_block_documents_by_type("secret"):
        client.delete_block_document(block.id)


def job_variables(client: SyncPrefectClient) -> dict[str, str]:
    template = client.read_work_pool(WORK_POOL).base_job_template
    default: dict[str, str] = template["variables"]["properties"]["env"]["default"]
    return default


# Setting up


def test_a_fresh_server_gets_all_that_narrations_need(run: Run, client: SyncPrefectClient) -> None:
    """One run makes pool, limit, blocks and automations."""
    assert run() == 0
    pool = client.read_work_pool(WORK_POOL)
    assert pool.type == "process"
    variables = job_variables(client)
    assert variables["NARRATION_STORE"] == "s3://narrations/shelf"
    assert variables["NARRATION_CONTINUITY"] == "true"
    assert variables["NARRATION_ENDPOINT_LIMIT"] == "narration-endpoint"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    limit = client.read_global_concurrency_limit_by_name("narration-endpoint")
    assert (limit.limit, limit.active, limit.slot_decay_per_second) == (64, True, 0.0)
    assert {automation.name for automation in client.read_automations()} == {
        automation.name for automation in automations()
    }


def test_a_second_run_changes_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The setup is safe to run on every deployment."""
    run()
    assert run() == 0
    shown = capsys.readouterr().err
    assert "Nothing to do." in shown
    assert "create" not in shown
    assert "update" not in shown


def test_a_dry_run_makes_nothing(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is read before it is done."""
    assert run("--dry-run") == 0
    assert "NARRATION_STORE: s3://narrations/shelf" in capsys.readouterr().err
    assert client.read_work_pools() == []
    assert client.read_automations() == []
    assert client.read_block_documents_by_type("secret") == []


def test_keys_are_kept_in_blocks_and_shown_nowhere(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pool names a key's block; neither pool nor output holds the key, nor a signed link."""
    run()
    shown = capsys.readouterr()
    secrets = ("rpa_the_key_for_jobs", "secret_signature", "aws_secret_key")
    pool = client.read_work_pool(WORK_POOL).model_dump_json()
    assert not any(secret in text for secret in secrets for text in (pool, shown.out, shown.err))
    assert job_variables(client)["RUNPOD_API_KEY"] == "{{ prefect.blocks.secret.narration-runpod-api-key }}"


async def test_a_runs_process_gets_settings_and_keys(run: Run, client: SyncPrefectClient) -> None:
    """A worker resolves the blocks; what a deployment adds comes on top."""
    run()
    template = client.read_work_pool(WORK_POOL).base_job_template
    with temporary_settings({PREFECT_API_URL: str(client.api_url).rstrip("/")}):
        job: Any = await ProcessJobConfiguration.from_template_and_values(
            template, {"env": {"NARRATION_VOICE": "alice"}}
        )
    assert job.env["RUNPOD_API_KEY"] == "rpa_the_key_for_jobs"
    assert job.env["AWS_SECRET_ACCESS_KEY"] == "aws_secret_key"
    assert job.env["NARRATION_STORE"] == "s3://narrations/shelf"
    assert job.env["NARRATION_VOICE"] == "alice"


def test_what_changed_here_changes_there_and_nothing_else(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings follow the environment, removals included; what others put into the pool stays."""
    run()
    template = client.read_work_pool(WORK_POOL).base_job_template
    template["variables"]["properties"]["env"]["default"]["THEIRS"] = "1"
    template["variables"]["properties"]["stream_output"]["default"] = False
    client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    assert run(NARRATION_CONCURRENCY="8", NARRATION_CONTINUITY="", NARRATION_VOICE="bob") == 0
    shown = capsys.readouterr().err
    assert "NARRATION_VOICE: (absent) -> bob" in shown
    assert "NARRATION_CONTINUITY: true -> (absent)" in shown
    assert "limit: 64 -> 8" in shown
    assert shown.count("update ") == 2  # pool and limit
    variables = job_variables(client)
    assert variables["THEIRS"] == "1"
    assert "NARRATION_CONTINUITY" not in variables
    kept = client.read_work_pool(WORK_POOL).base_job_template["variables"]["properties"]
    assert kept["stream_output"]["default"] is False


def test_a_key_that_is_not_set_here_keeps_its_block(run: Run, client: SyncPrefectClient) -> None:
    """Who sets the server up again need not have every key at hand."""
    run()
    assert run(RUNPOD_API_KEY="") == 0
    assert "RUNPOD_API_KEY" in job_variables(client)
    block = client.read_block_document_by_name(block_name("RUNPOD_API_KEY"), "secret")
    assert block.data["value"] == "rpa_the_key_for_jobs"


def test_a_new_key_replaces_the_old(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rotating a key is setting it and running the setup."""
    run()
    assert run(RUNPOD_API_KEY="rpa_the_next_key") == 0
    assert "value: (another) -> (this environment's RUNPOD_API_KEY)" in capsys.readouterr().err
    block = client.read_block_document_by_name(block_name("RUNPOD_API_KEY"), "secret")
    assert block.data["value"] == "rpa_the_next_key"


def test_a_key_put_into_the_pool_by_hand_is_moved_out_unseen(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan says that it was there, not what it was."""
    run()
    template = client.read_work_pool(WORK_POOL).base_job_template
    template["variables"]["properties"]["env"]["default"]["RUNPOD_API_KEY"] = "rpa_in_the_clear"
    client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    assert run() == 0
    shown = capsys.readouterr().err
    assert "RUNPOD_API_KEY: (a value in the clear) -> {{ prefect.blocks" in shown
    assert "rpa_in_the_clear" not in shown


def test_what_was_altered_by_hand_is_set_back(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """A paused automation and a switched-off limit are differences like any other."""
    run()
    silent = client.read_automations_by_name("narration: a silent run has crashed")[0]
    client.pause_automation(silent.id)
    client.update_global_concurrency_limit(
        "narration-endpoint",
        GlobalConcurrencyLimitUpdate(active=False),
    )
    assert run() == 0
    shown = capsys.readouterr().err
    assert "enabled: False -> True" in shown
    assert "active: False -> True" in shown
    assert client.read_automations_by_name(silent.name)[0].enabled


def test_a_pool_of_another_type_is_refused(
    run: Run, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's pool of the same name is not turned into another."""
    client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="docker"))
    assert run() == 2
    assert "work pool narration is of type docker" in capsys.readouterr().err
    assert client.read_automations() == []


def test_without_a_server_the_address_is_asked_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """No temporary server is started in place of the one that was meant."""
    assert run(url=None) == 2
    assert "PREFECT_API_URL is not set" in capsys.readouterr().err
    assert run(url="http://127.0.0.1:9/api") == 1
    assert "no Prefect server answers at http://127.0.0.1:9/api" in capsys.readouterr().err


# What the environment of runs is made of


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"NARRATION_STORE": ""}, "must be the same place for every worker"),
        ({"NARRATION_STORE": "./here"}, "must be the same place for every worker"),
        ({"RUNPOD_HIGGS_ENDPOINT_ID": ""}, "no endpoint is configured for the deployments"),
    ],
)
def test_settings_that_no_deployment_could_use_are_refused(
    environ: Callable[[Mapping[str, str]], None], variables: dict[str, str], said: str
) -> None:
    """A store that only this folder knows, or a draft that nobody asked for, stops the setup."""
    environ(ENVIRON | variables)
    with pytest.raises(SettingsError, match=said):
        job_environment(Settings(), os.environ)


@pytest.mark.parametrize("store", ["s3://narrations", "/srv/narrations", "C:\\narrations"])
def test_a_draft_that_was_asked_for_needs_no_endpoint(
    environ: Callable[[Mapping[str, str]], None], store: str
) -> None:
    """`engine=draft`, said outright, is a choice, on any store that workers share."""
    environ({"NARRATION_STORE": store, "NARRATION_ENGINE": "draft"})
    plain = job_environment(Settings(), os.environ).plain
    assert (plain["NARRATION_ENGINE"], plain["NARRATION_STORE"]) == ("draft", store)


def test_keys_that_expire_are_not_stored(environ: Callable[[Mapping[str, str]], None]) -> None:
    """Credentials with a session token are good for hours; a worker that kept them would fail at night."""
    environ(ENVIRON | {"AWS_ACCESS_KEY_ID": "id", "AWS_SESSION_TOKEN": "token"})
    environment = job_environment(Settings(), os.environ)
    assert not any(name.startswith("AWS") for name in environment.secrets)
    assert "AWS_SESSION_TOKEN" not in environment.plain


# What the server then does by itself


class Runs:
    """Runs of a deployment tagged as ours, moved through their states as a worker would."""

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
        """A run that went through `states`."""
        run: str = self._post(f"/deployments/{self._deployment}/create_flow_run", {})["id"]
        self.move(run, *states)
        return run

    def move(self, run: str, *states: str) -> None:
        for name in states:
            state = {"type": name.upper(), "name": name}
            answer = self._post(f"/flow_runs/{run}/set_state", {"state": state})
            assert answer["status"] == "ACCEPT", answer

    def beat(self, run: str) -> None:
        """The event that a flow's engine sends every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds."""
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
        name: str = self._http.get(f"/flow_runs/{run}").json()["state"]["name"]
        return name

    def history(self, run: str) -> list[str]:
        states = self._http.get("/flow_run_states/", params={"flow_run_id": run}).json()
        return [state["name"] for state in sorted(states, key=lambda state: str(state["timestamp"]))]

    def wait(self, run: str, name: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while self.state(run) != name:
            assert time.monotonic() < deadline, f"{self.history(run)}, and not {name}"
            time.sleep(0.2)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture
def watched(
    request: pytest.FixtureRequest, api_url: str, client: SyncPrefectClient, tmp_path: Path
) -> Iterator[Runs]:
    """A server set up by the script's own plan, but for its patience."""
    settings = Settings(store=str(tmp_path), engine="draft")
    set_up(plan(client, settings, {}, watch=getattr(request, "param", IMPATIENT)))
    with Runs(api_url, [RUN_TAG]) as runs:
        yield runs


@pytest.fixture
def others(api_url: str) -> Iterator[Runs]:
    """Runs on the same server that are no narrations."""
    with Runs(api_url, ["theirs"]) as runs:
        yield runs


def set_up(changes: list[ProvisioningChange]) -> None:
    for change in changes:
        change.apply()


def test_runs_whose_process_is_gone_are_looked_after(watched: Runs, others: Runs) -> None:
    """Silent or never heard: crashed, scheduled again. Not begun: handed on. Cancelling: cancelled.

    Runs that go on beating, that finished, or that are not ours are left alone. One test, since
    each of them is ten seconds of waiting.
    """
    silent = watched.start("Pending", "Running")
    watched.beat(silent)
    unheard = watched.start("Pending", "Running")
    unbegun = watched.start("Pending")
    cancelling = watched.start("Pending", "Running", "Cancelling")
    finished = watched.start("Pending", "Running", "Completed")
    watched.beat(finished)  # one that was still on its way when the run ended
    theirs = others.start("Pending", "Running")
    others.beat(theirs)
    alive = watched.start("Pending", "Running")

    waiting = dict.fromkeys((silent, unheard, unbegun), "AwaitingRetry") | {cancelling: "Cancelled"}
    deadline = time.monotonic() + PATIENCE
    while any(watched.state(run) != name for run, name in waiting.items()):
        assert time.monotonic() < deadline, [watched.history(run) for run in waiting]
        watched.beat(alive)
        time.sleep(0.5)

    assert watched.history(silent) == ["Scheduled", "Pending", "Running", "Crashed", "AwaitingRetry"]
    assert watched.history(unheard) == watched.history(silent)
    assert watched.history(unbegun) == ["Scheduled", "Pending", "AwaitingRetry"]
    assert watched.history(cancelling) == ["Scheduled", "Pending", "Running", "Cancelling", "Cancelled"]
    assert watched.history(finished) == ["Scheduled", "Pending", "Running", "Completed"]
    assert watched.history(alive) == ["Scheduled", "Pending", "Running"]
    assert others.history(theirs) == ["Scheduled", "Pending", "Running"]


def test_a_worker_is_left_to_end_what_it_was_doing_before_it_is_asked_again() -> None:
    """A worker with a limit ends itself when it is handed a run whose place it still holds."""
    again = next(made for made in automations() if made.name == "narration: a crashed run is scheduled again")
    assert isinstance(again.trigger, EventTrigger)
    assert again.trigger.posture is Posture.Proactive
    assert again.trigger.within >= timedelta(seconds=15)


def test_a_run_that_keeps_crashing_is_scheduled_three_times_and_no_more(watched: Runs) -> None:
    """What crashes its process every time does not do so for ever."""
    run = watched.start("Pending", "Running")
    for _ in range(3):
        watched.move(run, "Crashed")
        watched.wait(run, "AwaitingRetry")
        watched.move(run, "Pending", "Running")
    watched.move(run, "Crashed")
    later = watched.start("Pending", "Running", "Crashed")
    watched.wait(later, "AwaitingRetry")
    assert watched.state(run) == "Crashed", "one that crashed later was scheduled first"
    assert watched.history(run).count("AwaitingRetry") == 3


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


# A worker under load takes more than ten seconds to begin a run, so only silence is cut short.
@pytest.mark.parametrize(
    "watched", [automations(silence=SHORT, respite=SHORT)], indirect=True, ids=["short silence"]
)
def test_a_worker_killed_with_its_run_loses_nothing(
    watched: Runs, api_url: str, client: SyncPrefectClient, tmp_path: Path
) -> None:
    """A real worker and its run die without a word; another worker finishes the same run."""
    (tmp_path / "patient.py").write_text(FLOW)
    deployment = client.create_deployment(
        flow_id=client.create_flow_from_name("patient"),
        name="patient",
        path=str(tmp_path),
        entrypoint="patient.py:patient",
        work_pool_name=WORK_POOL,
        tags=[RUN_TAG],
    )
    run = client.create_flow_run_from_deployment(deployment, parameters={"folder": str(tmp_path)}).id
    began = tmp_path / "began"
    fast = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    with running_worker(tmp_path / "first", api_url, WORK_POOL, **fast) as worker:
        deadline = time.monotonic() + PATIENCE
        while not began.exists():
            assert time.monotonic() < deadline, (tmp_path / "first" / "worker.log").read_text()
            time.sleep(0.1)
        os.kill(worker.pid, signal.SIGKILL)
        os.kill(int(began.read_text()), signal.SIGKILL)
        worker.wait()
    with running_worker(tmp_path / "second", api_url, WORK_POOL, **fast):
        watched.wait(str(run), "Completed")
    told = [name for name in watched.history(str(run)) if name != "Submitting"]
    assert told == [
        *("Scheduled", "Pending", "Running", "Crashed"),
        *("AwaitingRetry", "Pending", "Running", "Completed"),
    ]
