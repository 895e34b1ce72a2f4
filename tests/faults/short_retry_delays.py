"""Shortens the delays between retries, so that tests can wait for all of them; `benchmarks/chaos.py` too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import unwrap

import pytest
from botocore.loaders import JSONFileLoader

DELAYS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]  # s between the tries of a task, in place of a minute or two

_load_once = cache(JSONFileLoader().load_file)


@contextmanager
def short_retry_delays() -> Iterator[None]:
    """Everything is tried as often as ever, after short delays; boto3's data files are read once."""
    from prefect import Task

    import tasks.load
    import tasks.publish
    import tasks.render
    import tasks.synthesize

    with_retries = (
        tasks.load.load_script,
        tasks.load.plan_narration,
        tasks.load.preflight,
        tasks.render.master,
        tasks.publish.find_published,
        tasks.publish.publish_narration,
        tasks.synthesize.synthesize_chunk,
    )
    with pytest.MonkeyPatch.context() as patch:
        for step in with_retries:
            task = unwrap(step, stop=lambda function: isinstance(function, Task))
            assert isinstance(task, Task)
            assert isinstance(task.retry_delay_seconds, list)
            patch.setattr(task, "retry_delay_seconds", DELAYS[: len(task.retry_delay_seconds)])
        patch.setattr("narration.endpoint.retrying.FIRST_PAUSE", DELAYS[0])
        # A worker that is told to stop waits for its request for jobs to be answered.
        patch.setattr("infra.local_runpod.worker_api.POLL_SECONDS", 1.0)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: _load_once(path))
        yield
