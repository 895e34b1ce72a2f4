"""Policy of making clips: how many at once, which failures come back, and what stops everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.asyncio import concurrency

from narration.contract import ErrorCode
from narration.endpoint import open_endpoint
from narration.errors import EndpointError, EndpointRefused, InputError, JobFailed, StoreRefused
from narration.planning import Plan, PlannedChunk
from narration.settings import Settings
from narration.store import Store
from narration.synthesis.run_state import RunState
from narration.synthesis.synthesizer import Synthesizer
from narration.voices.transport import VoiceTransport
from tasks.report import progress_shown
from tasks.retrying import CHUNK_RETRY_DELAYS, JITTER, is_transient
from tasks.sealing import sealed

ABOUT_THIS_CHUNK = {ErrorCode.INVALID_INPUT, ErrorCode.REQUEST_TOO_LONG, ErrorCode.ENGINE_FAILURE}
"""Worker failures that say nothing about the next chunk; every other final one would meet them all."""

LEASE_SECONDS = 60
"""How long a dead process keeps its share of the concurrency limit; the least that Prefect takes."""


def concerns_every_chunk(error: BaseException) -> bool:
    """Whether the next chunk would fail the same way: a key, a voice, a model, money, the store's no."""
    if isinstance(error, JobFailed):
        return bool(error.code) and error.code not in ABOUT_THIS_CHUNK and not error.retryable
    return isinstance(error, EndpointRefused | InputError | StoreRefused)


@task(
    name="synthesize",
    task_run_name="chunk {index}",
    retries=len(CHUNK_RETRY_DELAYS),
    retry_delay_seconds=CHUNK_RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    cache_policy=NO_CACHE,
)
async def synthesize(
    index: int,  # noqa: ARG001  # for the name of the task run
    planned: PlannedChunk,
    synthesizer: Synthesizer,
    tally: RunState,
    limit: str | None,
) -> None:
    """Make the clip of one chunk and note it in `tally`. `limit` is a global concurrency limit.

    `index` names the chunk in the UI. Nothing is returned: for every result that Prefect sees, it
    keeps a state as long as the run lasts.
    """
    async with _held(limit):
        tally.made[planned.digest] = await synthesizer.make(planned)


@asynccontextmanager
async def _held(limit: str | None) -> AsyncIterator[None]:
    if limit is None:
        yield
        return
    # A lease that cannot be renewed while the server is away must not cancel a job that is being paid.
    async with concurrency(
        limit,
        occupy=1,
        strict=True,
        lease_duration=LEASE_SECONDS,
        raise_on_lease_renewal_failure=False,
    ):
        yield


async def synthesize_missing(store: Store, settings: Settings, plan: Plan, tally: RunState, run: str) -> None:
    """Make every distinct missing clip, `settings.concurrency` at once; the first goes alone.

    What was made and what failed stands in `tally`; only cancellation is raised. After a
    failure that concerns every chunk nothing more is submitted, and the rest fail with it.
    """
    chains = _chains(plan)
    if not chains:
        return
    voice = await asyncio.to_thread(VoiceTransport.of, store.voices, plan.voice, settings)
    async with open_endpoint(settings) as endpoint:
        synthesizer = Synthesizer(
            store, endpoint, settings=settings, voice=voice, budget=tally.budget, run=run
        )
        try:
            async with progress_shown(plan, tally):
                await _run_chains(chains, synthesizer, settings, tally)
        finally:
            synthesizer.close()


async def _run_chains(
    chains: list[list[PlannedChunk]], synthesizer: Synthesizer, settings: Settings, tally: RunState
) -> None:
    stopped: list[BaseException] = []
    tried = {planned.digest: asyncio.Event() for chain in chains for planned in chain}

    async def run(chain: list[PlannedChunk]) -> None:
        for planned in chain:
            if planned.previous in tried:  # it is of an earlier chain, or of this one: no waiting in a circle
                await tried[planned.previous].wait()
            await _attempt(planned, synthesizer, settings, tally, stopped)
            tried[planned.digest].set()

    await run(chains[0])
    waiting = iter(chains[1:])

    async def consume() -> None:
        for chain in waiting:
            await run(chain)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(settings.concurrency, len(chains) - 1)):
            group.create_task(consume())


async def _attempt(
    planned: PlannedChunk,
    synthesizer: Synthesizer,
    settings: Settings,
    tally: RunState,
    stopped: list[BaseException],
) -> None:
    """Make one clip and note in `tally` what came of it; `stopped` says why nothing more may start."""
    if stopped:
        tally.failed[planned.digest] = stopped[0]
        return
    try:
        await synthesize(
            planned.chunk.index, sealed(planned), sealed(synthesizer), sealed(tally), settings.endpoint_limit
        )
        tally.failed.pop(planned.digest, None)
    except Exception as error:  # noqa: BLE001  # one chunk's bug must not cost the others' clips
        tally.failed[planned.digest] = error
        if concerns_every_chunk(error) or (not tally.made and isinstance(error, EndpointError)):
            stopped.append(error)


def _chains(plan: Plan) -> list[list[PlannedChunk]]:
    """The missing clips in groups that may run side by side: one each, or a paragraph under continuity."""
    chains: list[list[PlannedChunk]] = []
    last: str | None = None
    for planned in plan.missing.values():
        if planned.previous is not None and planned.previous == last:
            chains[-1].append(planned)
        else:
            chains.append([planned])
        last = planned.digest
    return chains
