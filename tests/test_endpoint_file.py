"""The endpoint's settings file: what it accepts, and how it names a mistake."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from support.runpod_account import ENDPOINT_FILE, KEY, FakeAccount, provision

from infra.endpoint_file import EndpointFile


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENDPOINT_FILE.replace(":1.2.3", ":latest"), "worker.image: must end in a tag other than latest"),
        (ENDPOINT_FILE.replace(":1.2.3", ""), "worker.image: must end in a tag"),
        (ENDPOINT_FILE.replace("docker.io", "registry.example"), "name the image you pushed"),
        (
            ENDPOINT_FILE.replace("WORKER_ENGINE", "HF_TOKEN"),
            "HF_TOKEN must be a reference such as {{ RUNPOD_SECRET_",
        ),
        (ENDPOINT_FILE.replace("max = 3", "max = 3\nidle_seconds = 5"), "idle_seconds: RunPod refuses it"),
        (
            ENDPOINT_FILE.replace("requests_per_worker = 32", ""),
            "give requests_per_worker or queue_delay_seconds",
        ),
        (ENDPOINT_FILE.replace("max = 3", "max = 3\nmin = 4"), "min is greater than max"),
        (ENDPOINT_FILE.replace("max = 3", "maximum = 3"), "workers.max: Field required"),
        (ENDPOINT_FILE.replace("max = 3", "max = 3\nmore = 1"), "workers.more: Extra inputs"),
        (ENDPOINT_FILE.replace("max = 3", "max ="), "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    """Every setting is checked before any request."""
    monkeypatch.setenv("RUNPOD_MANAGEMENT_KEY", KEY)
    account = FakeAccount()
    assert provision(account, tmp_path, text) == 2
    assert message in capsys.readouterr().err
    assert account.requests == []


@pytest.mark.parametrize("image", ["a:5000/b@sha256:" + "0" * 64, "b:1", "host:5000/b:v1.0-rc.2"])
def test_any_pinned_image_is_accepted(image: str) -> None:
    """A digest or a tag pins the image, with or without a registry and its port."""
    document = tomllib.loads(ENDPOINT_FILE)
    document["worker"]["image"] = image
    assert EndpointFile.model_validate(document).worker.image == image
