"""What holds for every test: no network beyond loopback, no settings and no home of this machine's person."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = [
    "support.narrations",
    "support.deployments",
    "support.engine_fixtures",
    "support.setup_server",
]
"""Modules of fixtures."""

_LONGEST = ("test_faults", "test_deployments", "test_scale_out", "test_narrate", "test_sweep")
_FOREIGN = ("NARRATION_", "RUNPOD_", "WORKER_", "VOICE_SAMPLE_", "AWS_", "PREFECT_")


def pytest_configure() -> None:
    """Before anything is imported: the environment of a machine nobody has configured."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Whoever starts tests in a shell's background has Ctrl-C ignored, and children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            del os.environ[name]
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: side by side, one of them begun last would be waited for alone."""
    rank = {name: position for position, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def pytest_sessionfinish() -> None:
    """S3 servers end here: processes that run tests side by side leave without their exit handlers."""
    kit = sys.modules.get("support.stores")
    if kit is not None:
        kit.stop_servers.close()


@pytest.fixture(scope="session", autouse=True)
def _prefect_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prefect keeps its database and results in a folder of this session."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect-home"))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env` of the checkout is read, and nothing is left in it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> None:
    """Any attempt to reach another machine fails the test that makes it."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guard(address: Any) -> None:
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            raise AssertionError(f"a test tried to reach {address}")

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
