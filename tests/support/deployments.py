"""Starts what deployed flows need: Prefect on PostgreSQL, an S3 server, an endpoint, deployments, workers.

`servers` and `deployed` are started once for the session. Tests of deployments and `benchmarks/load.py`
use `deployed`; tests that run flows in their own process use `workspace`, on the same servers.
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from narration.store import Store, open_store
from narration.store.s3 import S3ObjectStore
from support.postgres import running_postgres
from support.prefect_servers import prefect_env, running_server, running_worker
from support.recording_endpoint import RecordingEndpoint
from support.stores import BUCKET, aws_env, plain_client, server

ROOT = Path(__file__).resolve().parents[2]
POOL = "narration"
SLOTS = 4  # jobs in flight at once: the worker's slots, and the global concurrency limit
RUN_SECONDS = 300.0  # a run's start and end on a loaded machine
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

FLOWS_HERE = pytest.mark.filterwarnings("ignore:unclosed <socket.*127.0.0.1:ResourceWarning")
"""For modules that run flows in the test process, where Prefect leaves connections to its server open."""

Run = dict[str, Any]


def manifest_in(store: Store, narration_id: str) -> dict[str, Any]:
    """The manifest that is published in `store`."""
    manifest = store.manifests.read(narration_id)
    assert manifest is not None
    return dict(json.loads(manifest[0]))


@dataclass(frozen=True)
class Deployed:
    """A Prefect server with this project's deployments. `env` are the settings of those who use it."""

    api_url: str
    env: dict[str, str]
    endpoint: RecordingEndpoint
    home: Path
    http: httpx.Client
    store: Store

    def command(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` with the server's address and `env` in the environment."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=prefect_env(self.home, self.api_url, **self.env),
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def post(self, path: str, body: object) -> Any:
        """The JSON answer to a POST to Prefect's API, or None if it is empty."""
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        """The deployment `name/name`."""
        return dict(self.http.get(f"/deployments/name/{name}/{name}").raise_for_status().json())

    def create(self, flow: str, key: str | None = None, **parameters: Any) -> httpx.Response:
        """Create a run of `flow` through Prefect's API."""
        body = {"parameters": parameters, "idempotency_key": key}
        return self.http.post(f"/deployments/{self.deployment(flow)['id']}/create_flow_run", json=body)

    def start(self, flow: str, **parameters: Any) -> str:
        """Create a run of `flow`; its id."""
        return str(self.create(flow, **parameters).raise_for_status().json()["id"])

    def run(self, run: str) -> Run:
        """A run as Prefect's API shows it."""
        return dict(self.http.get(f"/flow_runs/{run}").raise_for_status().json())

    def finished(self, run: str, seconds: float = RUN_SECONDS) -> Run:
        """Wait until a run has ended in any state; the run."""
        return self.until(run, lambda now: now["state_type"] in FINAL, seconds)

    def until(self, run: str, reached: Callable[[Run], bool], seconds: float = RUN_SECONDS) -> Run:
        """Wait until `reached` is true of a run; the run."""
        deadline = time.monotonic() + seconds
        while not reached(now := self.run(run)):
            assert time.monotonic() < deadline, f"{now['state']}\n{self.log()}"
            time.sleep(0.2)
        return now

    def move(self, run: str, kind: str, name: str, *, force: bool = False) -> None:
        """Set a run's state as Prefect's UI does."""
        state = {"type": kind, "name": name}
        self.post(f"/flow_runs/{run}/set_state", {"state": state, "force": force})

    def artifacts(self, key: str) -> list[dict[str, Any]]:
        """Artifacts of that key, latest first."""
        query = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        return list(self.post("/artifacts/filter", query))

    def manifest(self, narration_id: str) -> dict[str, Any]:
        """The published manifest."""
        return manifest_in(self.store, narration_id)

    def log(self) -> str:
        """The end of the log of the Prefect worker named `worker`."""
        return (self.home / "worker" / "worker.log").read_text(errors="replace")[-6_000:]


@dataclass(frozen=True)
class Servers:
    """A Prefect server on PostgreSQL and an endpoint, with no deployment yet."""

    api_url: str
    endpoint: RecordingEndpoint


def start_servers(stack: ExitStack, home: Path) -> Servers:
    """Start a Prefect server on PostgreSQL and an endpoint; they end with `stack`."""
    endpoint = RecordingEndpoint()
    stack.enter_context(endpoint.running(slots=SLOTS))
    database = stack.enter_context(running_postgres())
    return Servers(stack.enter_context(running_server(home, database)), endpoint)


def deploy(stack: ExitStack, servers: Servers, home: Path) -> Deployed:
    """Run the commands of docs/operations.md that set a server up and deploy to it; starts no worker."""
    env = {
        **aws_env(server("moto")),
        **servers.endpoint.variables,
        "NARRATION_STORE": f"s3://{BUCKET}/deployed",
        "NARRATION_ENGINE": "draft",
        "NARRATION_CONCURRENCY": str(SLOTS),
    }
    http = stack.enter_context(httpx.Client(base_url=servers.api_url, timeout=60))
    store = Store(S3ObjectStore(plain_client(server("moto")), BUCKET, "deployed"))
    deployed = Deployed(servers.api_url, env, servers.endpoint, home, http, store)
    for arguments, cwd in (
        (["-m", "infra.prefect_setup"], home),
        (["-m", "prefect", "--no-prompt", "deploy", "--all"], ROOT),
    ):
        done = deployed.command(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
    return deployed


@pytest.fixture(scope="session")
def _session_stack() -> Iterator[ExitStack]:
    """Closed when the session ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def servers(_session_stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """One Prefect server on PostgreSQL and one endpoint for the session."""
    return start_servers(_session_stack, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def deployed(
    servers: Servers, _session_stack: ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> Deployed:
    """The session's servers with the deployments; each test module starts its own workers."""
    return deploy(_session_stack, servers, tmp_path_factory.mktemp("deployed"))


@contextmanager
def worker_of(deployed: Deployed, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `prefect worker start` with only the server's address in its environment."""
    with running_worker(
        deployed.home / name, deployed.api_url, POOL, *options, PREFECT_WORKER_QUERY_SECONDS="1"
    ) as process:
        yield process


def runs_below(process: int) -> dict[str, list[psutil.Process]]:
    """The processes of flow runs that the process with this id started, by run."""
    runs: dict[str, list[psutil.Process]] = {}
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            run = child.environ().get("PREFECT__FLOW_RUN_ID")
            if run:
                runs.setdefault(run, []).append(child)
    return runs


@dataclass(frozen=True)
class FlowWorkspace:
    """A store in a folder, for flows that run in the test process."""

    folder: Path
    store: Store
    endpoint: RecordingEndpoint

    async def after(self, steps: Callable[[], Awaitable[object]]) -> None:
        """Fill the empty store as `steps` do; they run once in a session, then their result is copied."""
        template = _TEMPLATES.get(steps)
        if template is not None:
            shutil.copytree(template, self.folder)
            return
        await steps()
        self.endpoint.reset()
        _TEMPLATES[steps] = Path(
            shutil.copytree(self.folder, self.folder.with_name(f"after-{uuid.uuid4().hex}"))
        )

    def manifest(self, narration_id: str) -> dict[str, Any]:
        """The published manifest."""
        return manifest_in(self.store, narration_id)


_TEMPLATES: dict[Callable[[], Awaitable[object]], Path] = {}


@pytest.fixture
def workspace(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlowWorkspace]:
    """An empty store, with the settings for it in this process's environment."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    servers.endpoint.reset()
    folder = tmp_path / "store"
    variables = {"NARRATION_STORE": str(folder), "NARRATION_ENGINE": "draft"}
    for name, value in (servers.endpoint.variables | variables).items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: servers.api_url}):
        yield FlowWorkspace(folder, open_store(str(folder)), servers.endpoint)
    gc.collect()  # Prefect's open connections are reported here, and not in a later test
