"""The environment that the work pool gives each flow run: which settings it takes and which it refuses."""

from __future__ import annotations

import os

import pytest
from support.setup_server import SETTINGS, set_settings

from infra.run_environment import run_environment
from narration.errors import SettingsError
from narration.settings import Settings


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NARRATION_STORE": ""}, "must be the same place for every worker"),
        ({"NARRATION_STORE": "./here"}, "must be the same place for every worker"),
        ({"RUNPOD_HIGGS_ENDPOINT_ID": ""}, "no endpoint is configured for the deployments"),
    ],
)
def test_settings_that_no_deployment_could_use_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """A store that other machines cannot reach, or no endpoint without `engine=draft`, is an error."""
    set_settings(monkeypatch, SETTINGS | variables)
    with pytest.raises(SettingsError, match=message):
        run_environment(Settings(), os.environ)


@pytest.mark.parametrize("store", ["s3://narrations", "/srv/narrations", "C:\\narrations"])
def test_the_draft_engine_needs_no_endpoint(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    """`engine=draft` is enough, with any store that all workers share."""
    set_settings(monkeypatch, {"NARRATION_STORE": store, "NARRATION_ENGINE": "draft"})
    plain = run_environment(Settings(), os.environ).plain
    assert (plain["NARRATION_ENGINE"], plain["NARRATION_STORE"]) == ("draft", store)


def test_keys_that_expire_are_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys with a session token are valid for hours; a worker that kept them would fail later."""
    set_settings(monkeypatch, SETTINGS | {"AWS_ACCESS_KEY_ID": "id", "AWS_SESSION_TOKEN": "token"})
    environment = run_environment(Settings(), os.environ)
    assert not any(name.startswith("AWS") for name in environment.secrets)
    assert "AWS_SESSION_TOKEN" not in environment.plain
