"""A flow run in the command's own process: how it is stopped, and what is said of a lost Prefect server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.narrations import CliWorkspace

from flows.cli import flow_run
from narration.errors import PrefectUnavailable


@pytest.mark.parametrize("grouped", [False, True])
def test_sigterm_stops_a_run_as_ctrl_c_does(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, which Prefect raises wherever the run is, ends like Ctrl-C and not in a traceback."""
    from prefect.exceptions import TerminationSignal

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    signal = TerminationSignal(signal=15)

    async def flow() -> dict[str, Any]:
        raise BaseExceptionGroup("tasks", [signal]) if grouped else signal

    with pytest.raises(KeyboardInterrupt):
        flow_run.run_flow(flow)


def test_a_server_that_cannot_be_used_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the address is in the environment, doing without means to unset it."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    async def flow() -> dict[str, Any]:
        raise RuntimeError("Failed to reach API")

    with pytest.raises(PrefectUnavailable, match=r"127\.0\.0\.1:9") as caught:
        flow_run.run_flow(flow)
    assert "unset PREFECT_API_URL" in caught.value.remedy


PROFILES = """
active = "team"

[profiles.team]
PREFECT_API_URL = "http://127.0.0.1:9/api"
"""


def test_a_server_of_a_profile_that_cannot_be_used_is_taken_out_of_the_profile(
    cli: CliWorkspace, tmp_path: Path
) -> None:
    """To unset a variable that nobody set helps nobody."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "profiles.toml").write_text(PROFILES, encoding="utf-8")
    script = cli.write("talk.md", "One paragraph that says something.\n")
    env = {name: value for name, value in cli.env.items() if name != "PREFECT_API_URL"}
    done = replace(cli, env=env).narrate(
        "run", str(script), PREFECT_HOME=str(home), PREFECT_CLIENT_MAX_RETRIES="0"
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("narrate: the Prefect server at http://127.0.0.1:9/api cannot be used")
    assert "prefect config unset PREFECT_API_URL" in last
