"""Which Prefect server a run at a terminal uses, and that it waits for no server that is gone.

That a run's own server ends with it is in `test_narrate`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.prefect_servers import RestartableServer, prefect_env

PROFILES = """
active = "team"

[profiles.team]
PREFECT_API_URL = "http://127.0.0.1:4999/api"
"""
PROVIDE = """
import os
from flows.cli.prefect_server import provide_server
provide_server()
print(os.environ["PREFECT_API_URL"])
"""


def provided(home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process that asks for a server and prints its address, in an environment that names none."""
    env = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    env |= {"PREFECT_HOME": str(home)} | settings
    command = [sys.executable, "-c", PROVIDE]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)


def test_a_server_of_the_active_profile_is_used(tmp_path: Path) -> None:
    """A server chosen by `prefect profile` is used, and no other is started."""
    (tmp_path / "profiles.toml").write_text(PROFILES, encoding="utf-8")
    done = provided(tmp_path)
    assert done.stdout.strip() == "http://127.0.0.1:4999/api", done.stderr


def test_a_server_of_the_environment_comes_first(tmp_path: Path) -> None:
    """As everywhere in Prefect, the environment overrules the profile."""
    (tmp_path / "profiles.toml").write_text(PROFILES, encoding="utf-8")
    done = provided(tmp_path, PREFECT_API_URL="http://127.0.0.1:4998/api")
    assert done.stdout.strip() == "http://127.0.0.1:4998/api", done.stderr


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The end of the server's log is in the error, with what to do."""
    done = provided(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL="nonsense://here")
    assert "SettingsError: Prefect's server did not start on this machine" in done.stderr
    assert "nonsense" in done.stderr
    assert "set PREFECT_API_URL" in done.stderr


EMIT_EVENTS = """
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from flows.cli.process_exit import exit_process
emit = lambda: emit_event(event="narration.published", resource={"prefect.resource.id": "narration.intro"})
emit()
EventsWorker.instance().wait_until_empty()
print("emitted", flush=True)
input()
for _ in range(100):
    emit()
exit_process(3)
"""


@pytest.mark.timeout(600)  # a server's start on a machine that is busy, and a wait that has to be long
def test_a_process_ends_without_sending_its_events_to_a_server_that_is_gone(tmp_path: Path) -> None:
    """Prefect alone would try each of a hundred events for seconds when the server has gone."""
    with RestartableServer(tmp_path) as server:
        env = prefect_env(tmp_path / "client", server.url, PREFECT_CLIENT_MAX_RETRIES="0")
        command = [sys.executable, "-c", EMIT_EVENTS]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"emitted\n"
            server.end()
            began = time.monotonic()
            process.stdin.write(b"go on\n")
            process.stdin.close()
            assert process.wait(timeout=300) == 3
        assert time.monotonic() - began < 60


def test_a_process_that_ends_says_nothing_of_the_events_it_still_sends(
    prefect_url: str, tmp_path: Path
) -> None:
    """`EventsWorker - Still processing items: 99 items remaining` asks nothing of the person."""
    env = prefect_env(tmp_path, prefect_url)
    done = subprocess.run(
        [sys.executable, "-c", EMIT_EVENTS], env=env, input="\n", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
