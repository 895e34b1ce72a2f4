"""Fixtures of whole narrations with a fault in their way."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from faults.backstage import Backstage
from faults.scene import Published, Scene
from faults.short_pauses import short_pauses


@pytest.fixture(scope="session")
def backstage() -> Iterator[Backstage]:
    """One backstage for the session; every test settles it."""
    made = Backstage()
    made.open()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def patience_in_seconds() -> Iterator[None]:
    """Short pauses for a test."""
    with short_pauses():
        yield


@pytest.fixture(scope="session")
def undisturbed(backstage: Backstage, prefect_url: str) -> Published:
    """What the narration is when nothing goes wrong."""
    backstage.settle()
    scene = Scene(backstage, prefect_url)
    scene.run()
    assert backstage.jobs == 4
    return scene.published()


@pytest.fixture(scope="module")
def swept() -> Iterator[None]:
    """What boto3 and Prefect leave open is closed where their module's own filters still hold."""
    yield
    gc.collect()


@pytest.fixture
def scene(
    backstage: Backstage,
    prefect_url: str,
    undisturbed: Published,
    swept: None,  # noqa: ARG001  # for its end
) -> Iterator[Scene]:
    """A narration to be disturbed, before an empty store."""
    assert undisturbed
    backstage.settle()
    yield Scene(backstage, prefect_url)
    backstage.settle()
