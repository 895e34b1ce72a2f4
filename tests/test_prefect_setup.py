"""The script that sets up the Prefect server, on a real server with PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.workers.process import ProcessJobConfiguration
from support.setup_server import SETTINGS, set_settings

from infra.automations import automations
from infra.prefect_setup import WORK_POOL, main
from infra.secret_blocks import block_name

Run = Callable[..., int]


@pytest.fixture
def run(
    api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the script with `SETTINGS` and these variables; output of earlier runs is dropped."""

    def run_once(*flags: str, url: str | None = api_url, **variables: str) -> int:
        set_settings(monkeypatch, SETTINGS | variables)
        capsys.readouterr()
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path}):
            return main(list(flags))

    return run_once


def run_variables(client: SyncPrefectClient) -> dict[str, str]:
    """The variables that the work pool gives its runs."""
    template = client.read_work_pool(WORK_POOL).base_job_template
    default: dict[str, str] = template["variables"]["properties"]["env"]["default"]
    return default


def test_a_fresh_server_gets_pool_limit_and_automations(run: Run, prefect_client: SyncPrefectClient) -> None:
    """One run of the script creates all that narrations need."""
    assert run() == 0
    pool = prefect_client.read_work_pool(WORK_POOL)
    assert pool.type == "process"
    variables = run_variables(prefect_client)
    assert variables["NARRATION_STORE"] == "s3://narrations/shelf"
    assert variables["NARRATION_CONTINUITY"] == "true"
    assert variables["NARRATION_ENDPOINT_LIMIT"] == "narration-endpoint"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    limit = prefect_client.read_global_concurrency_limit_by_name("narration-endpoint")
    assert (limit.limit, limit.active, limit.slot_decay_per_second) == (64, True, 0.0)
    assert {automation.name for automation in prefect_client.read_automations()} == {
        automation.name for automation in automations()
    }


@pytest.mark.usefixtures("prefect_client")
def test_a_second_run_changes_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The script can be run on every deployment."""
    run()
    assert run() == 0
    shown = capsys.readouterr().err
    assert "Nothing to do." in shown
    assert "create" not in shown
    assert "update" not in shown


def test_a_dry_run_changes_nothing(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The changes can be read before they are made."""
    assert run("--dry-run") == 0
    assert "NARRATION_STORE: s3://narrations/shelf" in capsys.readouterr().err
    assert prefect_client.read_work_pools() == []
    assert prefect_client.read_automations() == []
    assert prefect_client.read_block_documents_by_type("secret") == []


def test_keys_are_in_blocks_and_nowhere_else(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pool refers to a key's block; neither the pool nor the output has a key or a signed link."""
    run()
    shown = capsys.readouterr()
    secrets = ("rpa_the_key_for_jobs", "secret_signature", "aws_secret_key")
    pool = prefect_client.read_work_pool(WORK_POOL).model_dump_json()
    assert not any(secret in text for secret in secrets for text in (pool, shown.out, shown.err))
    reference = run_variables(prefect_client)["RUNPOD_API_KEY"]
    assert reference == "{{ prefect.blocks.secret.narration-runpod-api-key }}"


async def test_a_runs_process_gets_settings_and_keys(run: Run, prefect_client: SyncPrefectClient) -> None:
    """A worker resolves the references to blocks, and adds the deployment's own variables."""
    run()
    template = prefect_client.read_work_pool(WORK_POOL).base_job_template
    with temporary_settings({PREFECT_API_URL: str(prefect_client.api_url).rstrip("/")}):
        configuration: Any = await ProcessJobConfiguration.from_template_and_values(
            template, {"env": {"NARRATION_VOICE": "alice"}}
        )
    assert configuration.env["RUNPOD_API_KEY"] == "rpa_the_key_for_jobs"
    assert configuration.env["AWS_SECRET_ACCESS_KEY"] == "aws_secret_key"
    assert configuration.env["NARRATION_STORE"] == "s3://narrations/shelf"
    assert configuration.env["NARRATION_VOICE"] == "alice"


def test_only_settings_that_changed_are_updated(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pool follows the environment, also where a setting was removed; others' variables are kept."""
    run()
    template = prefect_client.read_work_pool(WORK_POOL).base_job_template
    template["variables"]["properties"]["env"]["default"]["THEIRS"] = "1"
    template["variables"]["properties"]["stream_output"]["default"] = False
    prefect_client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    assert run(NARRATION_CONCURRENCY="8", NARRATION_CONTINUITY="", NARRATION_VOICE="bob") == 0
    shown = capsys.readouterr().err
    assert "NARRATION_VOICE: (absent) -> bob" in shown
    assert "NARRATION_CONTINUITY: true -> (absent)" in shown
    assert "limit: 64 -> 8" in shown
    assert shown.count("update ") == 2  # pool and limit
    variables = run_variables(prefect_client)
    assert variables["THEIRS"] == "1"
    assert "NARRATION_CONTINUITY" not in variables
    properties = prefect_client.read_work_pool(WORK_POOL).base_job_template["variables"]["properties"]
    assert properties["stream_output"]["default"] is False


def test_a_key_that_is_not_set_here_keeps_its_block(run: Run, prefect_client: SyncPrefectClient) -> None:
    """The server can be set up again without having every key at hand."""
    run()
    assert run(RUNPOD_API_KEY="") == 0
    assert "RUNPOD_API_KEY" in run_variables(prefect_client)
    block = prefect_client.read_block_document_by_name(block_name("RUNPOD_API_KEY"), "secret")
    assert block.data["value"] == "rpa_the_key_for_jobs"


def test_a_new_key_replaces_the_old(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """To rotate a key, set it and run the script."""
    run()
    assert run(RUNPOD_API_KEY="rpa_the_next_key") == 0
    assert "value: (another) -> (this environment's RUNPOD_API_KEY)" in capsys.readouterr().err
    block = prefect_client.read_block_document_by_name(block_name("RUNPOD_API_KEY"), "secret")
    assert block.data["value"] == "rpa_the_next_key"


def test_a_key_in_the_pool_is_replaced_without_being_shown(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output says that somebody put a key there by hand, but not which."""
    run()
    template = prefect_client.read_work_pool(WORK_POOL).base_job_template
    template["variables"]["properties"]["env"]["default"]["RUNPOD_API_KEY"] = "rpa_in_the_clear"
    prefect_client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    assert run() == 0
    shown = capsys.readouterr().err
    assert "RUNPOD_API_KEY: (a value in the clear) -> {{ prefect.blocks" in shown
    assert "rpa_in_the_clear" not in shown


def test_settings_altered_by_hand_are_set_back(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """A paused automation and an inactive limit are differences too."""
    run()
    [automation] = prefect_client.read_automations_by_name("narration: a silent run has crashed")
    prefect_client.pause_automation(automation.id)
    prefect_client.update_global_concurrency_limit(
        "narration-endpoint", GlobalConcurrencyLimitUpdate(active=False)
    )
    assert run() == 0
    shown = capsys.readouterr().err
    assert "enabled: False -> True" in shown
    assert "active: False -> True" in shown
    assert prefect_client.read_automations_by_name(automation.name)[0].enabled


def test_a_pool_of_another_type_is_refused(
    run: Run, prefect_client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another person's pool of the same name is not changed."""
    prefect_client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="docker"))
    assert run() == 2
    assert "work pool narration is of type docker" in capsys.readouterr().err
    assert prefect_client.read_automations() == []


def test_without_a_server_the_error_names_the_address(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """No temporary server is started instead."""
    assert run(url=None) == 2
    assert "PREFECT_API_URL is not set" in capsys.readouterr().err
    assert run(url="http://127.0.0.1:9/api") == 1
    assert "no Prefect server answers at http://127.0.0.1:9/api" in capsys.readouterr().err
