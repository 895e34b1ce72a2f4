"""Which failures Prefect tries again, after which delays, and the decorators that make a step a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.utilities.annotations import quote

from narration.errors import Damaged, ManifestConflict, NarrationError, StoreUnavailable

STORE_RETRY_DELAYS = [1.0, 3.0, 9.0]
"""Seconds between the tries of a step on the store; an outage that lasts longer fails the run."""

CHUNK_RETRY_DELAYS = [2.0, 5.0, 12.0, 30.0, 60.0, 60.0]
"""Seconds between the tries of one chunk: longer than a minute without network, or a worker's restart."""

JITTER = 0.5
"""Each delay varies by up to this share, so that a thousand chunks do not try again at the same moment."""


P = ParamSpec("P")
R = TypeVar("R")


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the step may succeed if tried again, by what the error itself says; a bug never does.

    A damaged clip and a manifest that another run replaced need a new plan, not the same step again.
    """
    error = state.data
    if isinstance(error, Damaged | ManifestConflict):
        return False
    return isinstance(error, NarrationError) and error.retryable


def is_store_outage(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the store did not answer. Any other failure of a preflight should be shown at once."""
    return isinstance(state.data, StoreUnavailable)


def pipeline_task(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate an async function as a Prefect task with these options and no cache.

    Prefect looks for futures in everything that it finds inside a task's arguments. A call quotes its
    arguments, so that a plan of 5,000 chunks is not searched once for every chunk. The attribute
    `__wrapped__` of the decorated function is the task.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        prefect_task = task(cache_policy=NO_CACHE, **options)(function)

        @wraps(prefect_task, updated=())
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            quoted: Any = [quote(value) for value in args]
            quoted_by_name: Any = {name: quote(value) for name, value in kwargs.items()}
            result: R = prefect_task(*quoted, **quoted_by_name)
            return result

        return call

    return decorate


store_task = pipeline_task(
    retries=len(STORE_RETRY_DELAYS),
    retry_delay_seconds=STORE_RETRY_DELAYS,
    retry_condition_fn=is_transient,
)
"""Decorate a step that is tried again while the store does not answer."""
