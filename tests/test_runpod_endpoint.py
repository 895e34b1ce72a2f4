"""The provisioning script creates and updates the RunPod endpoint, against a fake of the management API."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.runpod_account import ENDPOINT_FILE, KEY, FakeAccount, provision

from gpu_worker.handler import jobs_at_once
from infra.runpod_endpoint import SETTINGS_FILE
from narration.endpoint.management import endpoint_state
from narration.settings import Settings

Run = Callable[..., int]


@pytest.fixture
def account() -> FakeAccount:
    """An empty account."""
    return FakeAccount()


@pytest.fixture
def run(
    account: FakeAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the script on a settings file; output of earlier runs is dropped."""
    monkeypatch.setenv("RUNPOD_MANAGEMENT_KEY", KEY)

    def run_once(text: str = ENDPOINT_FILE, *flags: str) -> int:
        capsys.readouterr()
        return provision(account, tmp_path, text, *flags)

    return run_once


def by_delay(text: str = ENDPOINT_FILE) -> str:
    """The settings file with scaling by delay."""
    delay = text.replace("requests_per_worker = 32", "queue_delay_seconds = 4.0")
    return delay.replace("max = 3\n", "max = 3\nidle_seconds = 60\n")


def test_an_empty_account_gets_a_template_and_an_endpoint(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run creates both with every setting stated, and prints only the id on standard output."""
    assert run() == 0
    shown = capsys.readouterr()
    assert shown.out == "ep1\n"
    assert "create     endpoint narration-higgs" in shown.err
    endpoint = account.endpoint
    assert endpoint["type"] == "QUEUE"
    assert endpoint["timeout"] == 600_000  # ms; left out it would be 0
    assert endpoint["flashboot"] == "FLASHBOOT"  # left out it would be OFF
    assert endpoint["workers"] == {"min": 0, "max": 3}
    assert endpoint["scaling"] == {"type": "REQUEST_COUNT", "requestCount": 32}
    assert endpoint["gpu"]["pools"] == ["ADA_24"]
    assert endpoint["gpu"]["minCudaVersion"] == "13.0"
    assert endpoint["env"] == {"WORKER_ENGINE": "higgs"}
    (template,) = account.collections["templates"]
    assert (template["serverless"], template["public"], template["startSsh"]) == (True, False, False)
    assert template["image"] == endpoint["image"] == "docker.io/me/narration-worker:1.2.3"


@pytest.mark.parametrize(
    "text",
    [ENDPOINT_FILE, by_delay(), ENDPOINT_FILE.replace('["ADA_24"]', '["AMPERE_24", "ADA_24"]')],
    ids=["by count", "by delay", "pools in an order that RunPod does not keep"],
)
def test_a_second_run_changes_nothing(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """The endpoint is found by name and compared; no request changes anything."""
    run(text)
    account.requests.clear()
    assert run(text) == 0
    assert account.writes() == []
    shown = capsys.readouterr()
    assert "Nothing to do." in shown.err
    assert shown.out == "ep1\n"


def test_a_dry_run_shows_changes_and_price_and_changes_nothing(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """They can be read before anything is paid for."""
    assert run(ENDPOINT_FILE, "--dry-run") == 0
    assert account.writes() == []
    shown = capsys.readouterr()
    assert "cost: at most 3.30 USD an hour with all 3 workers running" in shown.err
    assert "timeout: 600000" in shown.err
    assert shown.out == ""


def test_only_the_settings_that_changed_in_the_file_are_updated(account: FakeAccount, run: Run) -> None:
    """The PATCH holds no other settings."""
    run()
    account.requests.clear()
    assert run(ENDPOINT_FILE.replace("1.2.3", "1.2.4")) == 0
    image = {"image": "docker.io/me/narration-worker:1.2.4"}
    assert account.writes() == [("PATCH", "/templates/tpl1", image), ("PATCH", "/serverless/ep1", image)]


def test_an_endpoint_that_runpod_closed_is_opened_again(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """After seven days without a request RunPod allows no worker; applying the file allows them again."""
    run()
    account.endpoint["workers"]["max"] = 0
    assert endpoint_state("ep1", KEY, transport=account.transport).closed
    assert run() == 0
    assert "workers.max: 0 -> 3" in capsys.readouterr().err
    state = endpoint_state("ep1", KEY, transport=account.transport)
    assert (state.name, state.max_workers, state.min_workers, state.timeout) == ("narration-higgs", 3, 0, 600)
    assert not state.closed


@pytest.mark.parametrize(("before", "after"), [(ENDPOINT_FILE, by_delay()), (by_delay(), ENDPOINT_FILE)])
def test_scaling_can_change_between_count_and_delay(
    account: FakeAccount, run: Run, before: str, after: str
) -> None:
    """The idle timeout is set with scaling by delay and removed with scaling by count."""
    run(before)
    assert run(after) == 0
    assert ("idleTimeout" in account.endpoint["workers"]) == ("idle_seconds" in after)


def test_settings_removed_from_the_file_are_cleared(account: FakeAccount, run: Run) -> None:
    """A CUDA version, an excluded GPU type or a variable that the file no longer has is removed."""
    gpu = 'pools = ["AMPERE_24", "ADA_24"]\nexcluded = ["NVIDIA L4"]'
    run(ENDPOINT_FILE.replace('pools = ["ADA_24"]', gpu).replace("[gpu]", 'OLD = "1"\n[gpu]'))
    assert account.endpoint["gpu"]["excludedTypes"] == ["NVIDIA L4"]
    assert (
        run(ENDPOINT_FILE.replace('min_cuda = "13.0"\n', "").replace('"ADA_24"', '"ADA_24", "AMPERE_24"'))
        == 0
    )
    assert account.endpoint["gpu"].get("excludedTypes", []) == []
    assert account.endpoint["gpu"]["minCudaVersion"] is None
    assert account.endpoint["env"] == {"WORKER_ENGINE": "higgs"}


def test_cuda_versions_chosen_by_hand_are_replaced_by_the_files_minimum(
    account: FakeAccount, run: Run
) -> None:
    """RunPod refuses both at once, so the request that sets one clears the other."""
    run()
    account.endpoint["gpu"] |= {"allowedCudaVersions": ["12.6"], "minCudaVersion": None}
    assert run() == 0
    assert account.endpoint["gpu"]["allowedCudaVersions"] == []
    assert account.endpoint["gpu"]["minCudaVersion"] == "13.0"


def test_the_value_of_a_variable_set_by_hand_is_not_printed(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a secret: the output says that it is removed, but not what it was."""
    run()
    account.endpoint["env"] |= {"HF_TOKEN": "hf_very_secret", "WORKER_ENGINE": "hf_also_secret"}
    assert run(ENDPOINT_FILE, "--dry-run") == 0
    shown = capsys.readouterr()
    assert "env.HF_TOKEN: (another) -> (absent)" in shown.err
    assert "env.WORKER_ENGINE: (another) -> higgs" in shown.err
    assert "secret" not in shown.err + shown.out


def test_an_endpoint_is_found_by_a_name_that_the_console_has_marked(account: FakeAccount, run: Run) -> None:
    """No second endpoint is created beside it."""
    run()
    account.endpoint["name"] = "narration-higgs -fb"
    account.requests.clear()
    assert run() == 0
    assert account.writes() == []


def test_the_file_in_the_repository_lacks_only_the_image(account: FakeAccount, run: Run) -> None:
    """With the name of an image it can be applied as it is."""
    text = SETTINGS_FILE.read_text()
    assert run(re.sub(r'image = "[^"]*"', 'image = "docker.io/me/worker:1"', text)) == 0
    worker = account.endpoint["env"]
    taken = jobs_at_once(int(worker["WORKER_SLOTS"]), float(worker["WORKER_JOBS_PER_SLOT"]))
    assert (
        account.endpoint["scaling"]["requestCount"] == taken == Settings.model_fields["concurrency"].default
    )
    assert run(text) == 2
