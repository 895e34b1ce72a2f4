"""Policy: which failures are tried again, and how long to wait in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from narration.errors import Damaged, ManifestConflict, NarrationError, StoreUnavailable

STORE_RETRY_DELAYS = [1.0, 3.0, 9.0]
"""Seconds between tries of a step on the store; what outlasts them fails the run."""

CHUNK_RETRY_DELAYS = [2.0, 5.0, 12.0, 30.0, 60.0, 60.0]
"""Seconds between tries of one chunk: outlives a minute without network and a worker's replacement."""

JITTER = 0.5
"""Each delay is spread by up to this share, so that a thousand chunks do not come back at once."""


P = ParamSpec("P")
R = TypeVar("R")


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the failure itself says that the same step again may help; a bug never does.

    What is damaged, and a manifest that somebody else replaced, need a new plan instead.
    """
    error = state.data
    if isinstance(error, Damaged | ManifestConflict):
        return False
    return isinstance(error, NarrationError) and error.retryable


def is_store_outage(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether it was the store alone that did not answer; a person should hear of anything else at once."""
    return isinstance(state.data, StoreUnavailable)


def store_task(step: Callable[P, R]) -> Task[P, R]:
    """`step` as a task that is tried again while the store stutters, and never answered from a cache."""
    policy = task(
        retries=len(STORE_RETRY_DELAYS),
        retry_delay_seconds=STORE_RETRY_DELAYS,
        retry_condition_fn=is_transient,
        cache_policy=NO_CACHE,
    )
    return policy(step)
