"""Short pauses between tries, so that tests can wait for every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import JSONFileLoader

if TYPE_CHECKING:
    from prefect import Task

QUICK = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]  # s between the tries of a task, in place of a minute or two

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
