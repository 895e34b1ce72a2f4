"""Runs `narrate` as a command, with one Prefect server and one local endpoint for the session.

Tests of the command line use the fixture `cli`; `faults` uses the script and the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local_runpod.launch import RunningEndpoint, local_runpod
from support.prefect_servers import running_server

FOUR_CHUNKS = """# Four chunks

The first paragraph has one sentence of its own, long enough to be spoken alone.

The second paragraph says something else, and it takes a little longer to say it.

The third paragraph is the last one. It ends here, after two sentences.
"""


@dataclass(frozen=True)
class CliWorkspace:
    """A folder in which `narrate` runs as a command, and the environment for it."""

    folder: Path
    env: dict[str, str]

    @property
    def store(self) -> Path:
        """The folder of the store."""
        return self.folder / "store"

    def write(self, name: str, text: str) -> Path:
        """Write a file into the folder; its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start `narrate` with `arguments`."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=self.folder,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def narrate(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `narrate` to its end."""
        process = self.start(*arguments, **env)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, **env: str) -> dict[str, Any]:
        """Run `narrate ... --json`, which must succeed; the object that it printed."""
        done = self.narrate(*arguments, "--json", **env)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def manifest(self, narration_id: str) -> dict[str, Any]:
        """The published manifest."""
        path = self.store / "narrations" / narration_id / "manifest.json"
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return manifest


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """API of one Prefect server for the session."""
    with running_server(tmp_path_factory.mktemp("prefect-server")) as url:
        yield url


@pytest.fixture(scope="session")
def draft_endpoint() -> Iterator[RunningEndpoint]:
    """One local endpoint for the session, whose worker speaks the draft voice."""
    with local_runpod(engine="draft", slots=4) as endpoint:
        yield endpoint


@pytest.fixture
def cli(tmp_path: Path, prefect_url: str, draft_endpoint: RunningEndpoint) -> CliWorkspace:
    """A folder with an empty store, and settings for the session's Prefect server and endpoint."""
    env = dict(os.environ) | {
        "PREFECT_API_URL": prefect_url,
        "NARRATION_STORE": str(tmp_path / "store"),
        "NARRATION_ENGINE": "draft",
        "NARRATION_RUNPOD_URL": draft_endpoint.base_url,
        "RUNPOD_HIGGS_ENDPOINT_ID": draft_endpoint.endpoint_id,
        "RUNPOD_API_KEY": draft_endpoint.api_key,
    }
    return CliWorkspace(tmp_path, env)
