"""The decorator of the pipeline's tasks: Prefect does not search the arguments of a call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prefect import flow
from prefect.runtime import task_run
from support.deployments import FLOWS_HERE

from tasks.retrying import pipeline_task

pytestmark = FLOWS_HERE


class Unsearched(list[int]):
    """A list that fails whoever iterates over it."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("somebody looked into an argument")


@dataclass
class Chunk:
    """Stands for a planned chunk."""

    index: int


@pipeline_task(task_run_name="chunk {chunk.index}", retries=1, retry_delay_seconds=0)
async def step(chunk: Chunk, values: Unsearched, *, failures: list[str]) -> tuple[str, int, Unsearched]:
    if failures:
        raise RuntimeError(failures.pop())
    return str(task_run.get_name()), chunk.index, values


@pytest.mark.usefixtures("workspace")
async def test_arguments_reach_a_task_unsearched_and_unchanged() -> None:
    """Prefect looks for futures in every argument that is not quoted; a retry gets the same arguments."""
    values, failures = Unsearched([1, 2, 3]), ["the first time"]

    @flow
    async def run() -> None:
        name, index, received = await step(Chunk(7), values, failures=failures)
        assert (name, index, received is values, failures) == ("chunk 7", 7, True, [])

    await run()
