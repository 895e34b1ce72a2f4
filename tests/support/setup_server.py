"""Fixtures: a Prefect server on PostgreSQL for the tests of its setup, emptied before each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest
from prefect.client.orchestration import SyncPrefectClient

from support.postgres import running_postgres
from support.prefect_servers import running_server

SETTINGS = {
    "NARRATION_STORE": "s3://narrations/shelf",
    "NARRATION_CONTINUITY": "true",
    "NARRATION_CONCURRENCY": "64",
    "RUNPOD_HIGGS_ENDPOINT_ID": "ep1",
    "RUNPOD_API_KEY": "rpa_the_key_for_jobs",
    "VOICE_SAMPLE_URL": "https://voices.example/one.wav?signature=secret_signature",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_key",
}
"""Environment variables of a person who sets up a server."""


def set_settings(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Make these variables the only settings in the environment."""
    for name in list(os.environ):
        if name.startswith(("NARRATION_", "RUNPOD_", "VOICE_", "AWS_")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address. No other test uses it, since its automations act on every narration's run."""
    frequent_checks = {"PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S"}
    home = tmp_path_factory.mktemp("server")
    with running_postgres() as database, running_server(home, database, **frequent_checks) as url:
        yield url


@pytest.fixture
def prefect_client(api_url: str) -> Iterator[SyncPrefectClient]:
    """A client of the server, which has no work pools, blocks, limits or automations yet."""
    with SyncPrefectClient(api_url) as client:
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)
        for limit in client.read_global_concurrency_limits():
            client.delete_global_concurrency_limit_by_name(limit.name)
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        for block in client.read_block_documents_by_type("secret"):
            client.delete_block_document(block.id)
        yield client
