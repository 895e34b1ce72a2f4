"""The shared setting, whole: Prefect on PostgreSQL, an S3 server, an endpoint, the deployments, a worker."""

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
from prefect.settings import PREFECT_API_URL, temporary_settings

from narration.store import Store, open_store
from narration.store.s3 import S3ObjectStore
from support.postgres import running_postgres
from support.prefect_servers import prefect_env, running_server, running_worker
from support.stores import BUCKET, aws_env, plain_client, server
from support.watched_endpoint import WatchedEndpoint

ROOT = Path(__file__).resolve().parents[2]
POOL = "narration"
SLOTS = 4  # jobs in flight at once: of the worker, and of the global concurrency limit
RUN_SECONDS = 300.0  # a run's start and end on a loaded machine
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

FLOWS_HERE = pytest.mark.filterwarnings("ignore:unclosed <socket.*127.0.0.1:ResourceWarning")
"""For modules that run flows in the test's process, where Prefect leaves connections to its server open."""

Run = dict[str, Any]


def manifest_in(store: Store, narration_id: str) -> dict[str, Any]:
    """The manifest that `store` has published."""
    found = store.manifests.read(narration_id)
    assert found is not None
    return dict(json.loads(found[0]))


@dataclass(frozen=True)
class Deployed:
    """A server with the deployments on it. `env` is what stands in the environment of whoever uses it."""

    api_url: str
    env: dict[str, str]
    endpoint: WatchedEndpoint
    home: Path
    http: httpx.Client
    store: Store

    def command(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` as somebody who uses the server."""
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
        """POST; what came back."""
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        """The deployment `name/name`."""
        return dict(self.http.get(f"/deployments/name/{name}/{name}").raise_for_status().json())

    def create(self, flow: str, key: str | None = None, **parameters: Any) -> httpx.Response:
        """Ask for a run as any HTTP client would."""
        body = {"parameters": parameters, "idempotency_key": key}
        return self.http.post(f"/deployments/{self.deployment(flow)['id']}/create_flow_run", json=body)

    def start(self, flow: str, **parameters: Any) -> str:
        """Ask for a run; its id."""
        return str(self.create(flow, **parameters).raise_for_status().json()["id"])

    def run(self, run: str) -> Run:
        """What the server knows of a run."""
        return dict(self.http.get(f"/flow_runs/{run}").raise_for_status().json())

    def finished(self, run: str, seconds: float = RUN_SECONDS) -> Run:
        """The run once it has ended, however it did."""
        return self.until(run, lambda now: now["state_type"] in FINAL, seconds)

    def until(self, run: str, reached: Callable[[Run], bool], seconds: float = RUN_SECONDS) -> Run:
        """The run once `reached`."""
        deadline = time.monotonic() + seconds
        while not reached(now := self.run(run)):
            assert time.monotonic() < deadline, f"{now['state']}\n{self.log()}"
            time.sleep(0.2)
        return now

    def move(self, run: str, kind: str, name: str, *, force: bool = False) -> None:
        """Set a run's state as the UI does."""
        state = {"type": kind, "name": name}
        self.post(f"/flow_runs/{run}/set_state", {"state": state, "force": force})

    def artifacts(self, key: str) -> list[dict[str, Any]]:
        """Artifacts of that key, latest first."""
        chosen = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        return list(self.post("/artifacts/filter", chosen))

    def manifest(self, narration_id: str) -> dict[str, Any]:
        """The published manifest."""
        return manifest_in(self.store, narration_id)

    def log(self) -> str:
        """The end of the worker's log."""
        return (self.home / "worker" / "worker.log").read_text(errors="replace")[-6_000:]


@dataclass(frozen=True)
class Setting:
    """A Prefect server on PostgreSQL and an endpoint, with nothing set up yet."""

    api_url: str
    endpoint: WatchedEndpoint


_OPENED = pytest.StashKey[ExitStack]()
_SETTING = pytest.StashKey[Setting]()
_DEPLOYED = pytest.StashKey[Deployed]()


def _opened(config: pytest.Config) -> ExitStack:
    """What is closed when the session ends. Fixtures imported by several modules share it."""
    if _OPENED not in config.stash:
        config.stash[_OPENED] = ExitStack()
        config.add_cleanup(config.stash[_OPENED].close)
    return config.stash[_OPENED]


def open_setting(stack: ExitStack, home: Path) -> Setting:
    """A Prefect server on PostgreSQL and an endpoint, closed with `stack`."""
    endpoint = WatchedEndpoint()
    stack.enter_context(endpoint.opened(slots=SLOTS))
    database = stack.enter_context(running_postgres())
    return Setting(stack.enter_context(running_server(home, database)), endpoint)


def deploy(stack: ExitStack, setting: Setting, home: Path) -> Deployed:
    """Set the server up and deploy to it by the words of the README; no worker yet."""
    env = {
        **aws_env(server("moto")),
        **setting.endpoint.variables,
        "NARRATION_STORE": f"s3://{BUCKET}/deployed",
        "NARRATION_ENGINE": "draft",
        "NARRATION_CONCURRENCY": str(SLOTS),
    }
    http = stack.enter_context(httpx.Client(base_url=setting.api_url, timeout=60))
    store = Store(S3ObjectStore(plain_client(server("moto")), BUCKET, "deployed"))
    made = Deployed(setting.api_url, env, setting.endpoint, home, http, store)
    for arguments, cwd in (
        (["-m", "infra.prefect_setup"], home),
        (["-m", "prefect", "--no-prompt", "deploy", "--all"], ROOT),
    ):
        done = made.command(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture(scope="session")
def setting(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """One Prefect server on PostgreSQL and one endpoint, for every module that asks."""
    if _SETTING not in pytestconfig.stash:
        home = tmp_path_factory.mktemp("server")
        pytestconfig.stash[_SETTING] = open_setting(_opened(pytestconfig), home)
    return pytestconfig.stash[_SETTING]


@pytest.fixture(scope="session")
def deployed(
    setting: Setting, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Deployed:
    """The setting with the deployments, for every module that asks; each starts its own workers."""
    if _DEPLOYED not in pytestconfig.stash:
        home = tmp_path_factory.mktemp("deployed")
        pytestconfig.stash[_DEPLOYED] = deploy(_opened(pytestconfig), setting, home)
    return pytestconfig.stash[_DEPLOYED]


@contextmanager
def worker_of(deployed: Deployed, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`prefect worker start`, which knows nothing but the server's address."""
    with running_worker(
        deployed.home / name, deployed.api_url, POOL, *options, PREFECT_WORKER_QUERY_SECONDS="1"
    ) as process:
        yield process


def runs_below(process: int) -> dict[str, list[psutil.Process]]:
    """The processes below this one that are flow runs' own, by run."""
    found: dict[str, list[psutil.Process]] = {}
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            run = child.environ().get("PREFECT__FLOW_RUN_ID")
            if run:
                found.setdefault(run, []).append(child)
    return found


@dataclass(frozen=True)
class Shelf:
    """A test's own store, a folder, for flows that run in the test's process."""

    folder: Path
    store: Store
    endpoint: WatchedEndpoint

    async def after(self, steps: Callable[[], Awaitable[object]]) -> None:
        """Bring the empty store to where `steps` lead; they are taken once, and copied from then on."""
        template = _TEMPLATES.get(steps)
        if template is not None:
            shutil.copytree(template, self.folder)
            return
        await steps()
        self.endpoint.forget()
        _TEMPLATES[steps] = Path(
            shutil.copytree(self.folder, self.folder.with_name(f"after-{uuid.uuid4().hex}"))
        )

    def manifest(self, narration_id: str) -> dict[str, Any]:
        """The published manifest."""
        return manifest_in(self.store, narration_id)


_TEMPLATES: dict[Callable[[], Awaitable[object]], Path] = {}


@pytest.fixture
def shelf(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """An empty store, and this process set up as a run's is."""
    setting.endpoint.forget()
    folder = tmp_path / "store"
    variables = {"NARRATION_STORE": str(folder), "NARRATION_ENGINE": "draft"}
    for name, value in (setting.endpoint.variables | variables).items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: setting.api_url}):
        yield Shelf(folder, open_store(str(folder)), setting.endpoint)
    gc.collect()  # what Prefect left is found here, and not in a test that has nothing to do with it
