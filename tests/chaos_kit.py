"""Fixtures of whole narrations with a fault in their way, and pauses that tests can wait for."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from backstage_kit import Backstage
from botocore.loaders import JSONFileLoader
from scene_kit import Published, Scene

if TYPE_CHECKING:
    from prefect import Task

QUICK = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]  # s between the tries of a task, in place of a minute or two


@pytest.fixture(scope="session")
def backstage() -> Iterator[Backstage]:
    """One backstage for the session; every test settles it."""
    made = Backstage()
    made.open()
    try:
        yield made
    finally:
        made.close()


_load = cache(JSONFileLoader().load_file)


@contextmanager
def short_pauses() -> Iterator[None]:
    """Everything is tried as often as ever, with short pauses between; boto's files are read once."""
    import tasks.load
    import tasks.master
    import tasks.publish
    import tasks.synthesize

    steps: tuple[Task[..., Any], ...] = (
        tasks.load.load_script,
        tasks.load.plan,
        tasks.load.preflight,
        tasks.master.master,
        tasks.publish.published_already,
        tasks.publish.publish,
        tasks.synthesize.synthesize,
    )
    with pytest.MonkeyPatch.context() as patch:
        for step in steps:
            assert isinstance(step.retry_delay_seconds, list)
            patch.setattr(step, "retry_delay_seconds", QUICK[: len(step.retry_delay_seconds)])
        patch.setattr("narration.endpoint.retrying.FIRST_PAUSE", QUICK[0])
        patch.setattr("infra.local_runpod.worker_api.POLL_SECONDS", 1.0)  # a worker that is to stop awaits it
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: _load(path))
        yield


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
