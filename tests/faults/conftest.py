"""Fixtures for narrations with faults: services for the session, one narration for each test."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from faults.narration_case import CHUNKS, NarrationCase
from faults.published import Published
from faults.services import Services
from faults.short_retry_delays import short_retry_delays


def pytest_configure(config: pytest.Config) -> None:
    """Register this folder's marker."""
    config.addinivalue_line(
        "markers", "fault_row(text): the test stands for the row of docs/faults.md with this first cell"
    )


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Endpoint, worker, S3 server and their proxies, for all tests of the session."""
    services = Services()
    services.start()
    try:
        yield services
    finally:
        services.stop()


@pytest.fixture(scope="session")
def reference(services: Services, prefect_url: str) -> Published:
    """What the narration publishes without a fault."""
    services.reset()
    case = NarrationCase(services, prefect_url)
    case.run()
    assert services.accepted_jobs == CHUNKS
    return case.published()


@pytest.fixture(scope="module")
def _collected_garbage() -> Iterator[None]:
    """Close connections that boto3 and Prefect leave open while the module's warning filters hold."""
    yield
    gc.collect()


@pytest.fixture
def case(
    services: Services,
    prefect_url: str,
    reference: Published,  # noqa: ARG001  # made first, while no fault is arranged
    _collected_garbage: None,
) -> Iterator[NarrationCase]:
    """A narration with an empty store, short retry delays and no fault yet."""
    services.reset()
    with short_retry_delays():
        yield NarrationCase(services, prefect_url)
    services.reset()
