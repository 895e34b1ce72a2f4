"""For every test: no network beyond loopback, no settings or home of this machine's user, no process left."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from support.orphans import kill_orphans_at_exit

pytest_plugins = [
    "support.narrations",
    "support.deployments",
    "support.engine_fixtures",
    "support.setup_server",
    "support.speech_engine",
]
"""Modules of fixtures."""

_SECONDS = {"deployed": 15.0, "cli": 6.0, "case": 4.0, "workspace": 2.5, "api_url": 1.5}
"""About how long a test takes that uses this fixture, in seconds; the others take `_SECONDS_OTHERWISE`."""
_SECONDS_OTHERWISE = 0.2
_FOREIGN = ("NARRATION_", "RUNPOD_", "WORKER_", "VOICE_SAMPLE_", "AWS_", "PREFECT_")


def pytest_configure() -> None:
    """Before tests are imported: an environment without settings, and no process left in the end."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell ignores Ctrl-C for what it runs in the background, and children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            del os.environ[name]
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    kill_orphans_at_exit()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest first: with several side by side, one begun last would run on alone."""
    seconds: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        seconds[item.path] += _expected_seconds(item)
    items.sort(key=lambda item: (-seconds[item.path], item.path))


def _expected_seconds(item: pytest.Item) -> float:
    """By the test's fixtures, or a tenth of its own time limit if it has one."""
    fixtures: list[str] = getattr(item, "fixturenames", [])
    limit = item.get_closest_marker("timeout")
    return max(
        _SECONDS_OTHERWISE,
        limit.args[0] / 10 if limit is not None else 0.0,
        *(_SECONDS.get(name, 0.0) for name in fixtures),
    )


def pytest_sessionfinish() -> None:
    """Stop S3 servers: processes of pytest-xdist run no exit handlers."""
    kit = sys.modules.get("support.stores")
    if kit is not None:
        kit.stop_servers.close()


@pytest.fixture(scope="session", autouse=True)
def _prefect_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prefect keeps its database and results in a temporary folder of this session."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect-home"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a temporary folder: no `.env` of the checkout is read, and no file is left in it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> None:
    """A connection to another machine fails the test that makes it."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guard(address: Any) -> None:
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            raise AssertionError(f"a test tried to connect to {address}")

    def guarded(self: socket.socket, address: Any) -> None:
        guard(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        guard(address)
        return connect_ex(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign,assignment]  # for the whole session, on purpose
    socket.socket.connect_ex = guarded_ex  # type: ignore[method-assign,assignment]  # as above


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
