"""The compose file: its text, and its commands run as processes, since Docker is not needed for that."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from moto.server import ThreadedMotoServer
from support.postgres import free_port, running_postgres
from support.prefect_servers import running

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS = {  # the variables in .env
    "POSTGRES_PASSWORD": "example",
    "AWS_ACCESS_KEY_ID": "narrator",
    "AWS_SECRET_ACCESS_KEY": "narrator-secret",
    "RUNPOD_API_KEY": "rpa_the_key_for_jobs",
    "RUNPOD_HIGGS_ENDPOINT_ID": "ep1",
}
WAIT_SECONDS = 120.0


def interpolated(value: Any, settings: Mapping[str, str] = SETTINGS) -> Any:
    """`value` with its ${VARIABLES} replaced as Compose does: `:-` gives a default, `:?` requires a value."""

    def value_of(variable: re.Match[str]) -> str:
        name, kind, text = variable[1], variable[2], variable[3]
        if settings.get(name):
            return settings[name]
        assert kind == ":-", f"{name} is missing: {text}"
        return text

    if isinstance(value, Mapping):
        return {key: interpolated(inner, settings) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, settings) for inner in value]
    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value_of, value) if isinstance(value, str) else value


# Its text


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    """`up` starts the same images on every day."""
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.search(r"\d+[.-]\d+", tag), tag
    if "build" in SERVICES[name]:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert tag == version
        assert re.search(rf"^FROM \S+ AS {SERVICES[name]['build']['target']}$", dockerfile(), re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """No service without a login can be reached from another machine."""
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "setup"])
def test_every_long_lived_service_has_a_health_check(name: str) -> None:
    """It is also started again after a crash."""
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_no_secret_is_in_the_file() -> None:
    """Passwords and keys come from `.env`, and only `setup` gets all of it."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|USER$", variable) and variable != "POSTGRES_USER":
                assert re.fullmatch(r"\$\{\w+:\?[^}]*\}", value), f"{name}: {variable}"
        assert ("env_file" in service) == (name == "setup")


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_missing_password_is_an_error(missing: str) -> None:
    """No service starts with an empty password."""
    with pytest.raises(AssertionError, match=f"{missing} is missing"):
        interpolated(SERVICES, {name: value for name, value in SETTINGS.items() if name != missing})


def test_services_start_in_the_order_of_their_dependencies() -> None:
    """Workers wait for `setup`, `setup` for server and store, the server for its database."""
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert needs["server"] == {"postgres": {"condition": "service_healthy"}}
    assert needs["setup"] == {key: {"condition": "service_healthy"} for key in ("server", "minio")}
    assert needs["worker"] == {"setup": {"condition": "service_completed_successfully"}}


def test_the_number_of_workers_is_a_setting() -> None:
    """It is two by default."""
    replicas = SERVICES["worker"]["deploy"]["replicas"]
    assert interpolated(replicas) == "2"
    assert interpolated(replicas, SETTINGS | {"NARRATION_WORKERS": "5"}) == "5"
    assert "ports" not in SERVICES["worker"]  # several workers cannot publish the same port
    assert "container_name" not in SERVICES["worker"]


def dockerfile() -> str:
    """The text of the Dockerfile."""
    return (ROOT / "Dockerfile").read_text()


# Its commands


@dataclass(frozen=True)
class Machine:
    """This machine instead of Compose: the real address for each `host:port` of the compose file."""

    folder: Path
    addresses: Mapping[str, str]

    def env(self, service: str) -> dict[str, str]:
        """The environment of a service, with the project's programs on PATH."""
        variables = interpolated(SERVICES[service].get("environment", {}))
        if "env_file" in SERVICES[service]:
            variables = SETTINGS | variables
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        home = {"HOME": str(self.folder), "PREFECT_HOME": str(self.folder / service), "COLUMNS": "200"}
        return path | home | {name: self.localized(value) for name, value in variables.items()}

    def command(self, service: str) -> list[str]:
        """The command line of a service."""
        return [self.localized(part) for part in SERVICES[service]["command"]]

    def localized(self, text: str) -> str:
        """`text` with the real addresses."""
        for there, real in self.addresses.items():
            text = text.replace(there, real)
        return text

    def is_healthy(self, service: str) -> bool:
        """Whether the service's own health check passes."""
        check = [self.localized(part) for part in SERVICES[service]["healthcheck"]["test"][1:]]
        result = subprocess.run(check, check=False, capture_output=True, env=self.env(service))
        return result.returncode == 0

    def wait_until_healthy(self, service: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Return when the service's health check passes."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.is_healthy(service):
            stopped = process.poll() is not None or time.monotonic() > deadline
            assert not stopped, log.read_text(errors="replace")[-5_000:]
            time.sleep(0.3)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """PostgreSQL and an S3 server, and free ports for the rest."""
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    server, health = str(free_port()), str(free_port())
    with running_postgres() as url:
        database = re.search(r"127\.0\.0\.1:\d+", url)
        assert database is not None
        addresses = {
            "postgres:5432": database[0],
            "server:4200": f"127.0.0.1:{server}",
            "minio.localhost:9000": "{}:{}".format(*s3.get_host_and_port()),
            "0.0.0.0": "127.0.0.1",
            "4200": server,
            ":8080": f":{health}",
        }
        yield Machine(tmp_path, addresses)
    s3.stop()


def test_the_stack_comes_up(machine: Machine) -> None:
    """Server on PostgreSQL, setup of bucket, pool and deployments, and a worker, each by its own command."""
    (machine.folder / "prefect.yaml").write_bytes((ROOT / "prefect.yaml").read_bytes())
    log = machine.folder / "log"
    with running(machine.command("server"), machine.env("server"), log) as server:
        machine.wait_until_healthy("server", server, log)
        api = machine.localized("http://server:4200/api")

        for _ in range(2):  # a second `up` runs `setup` again
            setup = subprocess.run(
                machine.command("setup"),
                check=False,
                capture_output=True,
                text=True,
                env=machine.env("setup"),
                cwd=machine.folder,
            )
            assert setup.returncode == 0, setup.stdout + setup.stderr
        assert setup.stderr.count("Nothing to do.") == 2  # bucket and server
        assert "rpa_the_key" not in setup.stdout + setup.stderr
        deployments = httpx.post(f"{api}/deployments/filter", json={}).json()
        expected = {
            deployment["name"]
            for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        }
        assert {deployment["name"] for deployment in deployments} == expected
        assert {deployment["work_pool_name"] for deployment in deployments} == {"narration"}
        assert all("narration" in deployment["tags"] for deployment in deployments)

        health = {"PREFECT_WORKER_WEBSERVER_PORT": machine.addresses[":8080"].removeprefix(":")}
        with running(machine.command("worker"), machine.env("worker") | health, log) as worker:
            machine.wait_until_healthy("worker", worker, log)
            deadline = time.monotonic() + WAIT_SECONDS
            while not (workers := httpx.post(f"{api}/work_pools/narration/workers/filter", json={}).json()):
                assert time.monotonic() < deadline, log.read_text(errors="replace")[-5_000:]
                time.sleep(0.3)
            assert [one["status"] for one in workers] == ["ONLINE"]
