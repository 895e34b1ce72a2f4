"""The task that makes one clip, and the order in which a run's missing clips are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.concurrency.asyncio import concurrency

from narration.contract import ErrorCode
from narration.endpoint import open_endpoint
from narration.errors import EndpointError, EndpointRefused, InputError, JobFailed, StoreRefused
from narration.planning import Plan, PlannedChunk
from narration.synthesis.run_state import NarrationRun
from narration.synthesis.synthesizer import Synthesizer
from narration.voices.transport import VoiceTransport
from tasks.progress import synthesis_progress
from tasks.retrying import CHUNK_RETRY_DELAYS, JITTER, is_transient, pipeline_task

ERRORS_OF_ONE_CHUNK = {ErrorCode.INVALID_INPUT, ErrorCode.REQUEST_TOO_LONG, ErrorCode.ENGINE_FAILURE}
"""Worker failures that need not repeat with the next chunk; every other final one would."""

LEASE_SECONDS = 60
"""How long a dead process keeps its slots of the concurrency limit; the least that Prefect allows."""


def concerns_every_chunk(error: BaseException) -> bool:
    """Whether the next chunk would fail for the same cause: the key, voice, model, budget or store."""
    if isinstance(error, JobFailed):
        return bool(error.code) and error.code not in ERRORS_OF_ONE_CHUNK and not error.retryable
    return isinstance(error, EndpointRefused | InputError | StoreRefused)


@pipeline_task(
    name="synthesize",
    task_run_name="chunk {planned.chunk.index}",
    retries=len(CHUNK_RETRY_DELAYS),
    retry_delay_seconds=CHUNK_RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
)
async def synthesize_chunk(run: NarrationRun, planned: PlannedChunk, synthesizer: Synthesizer) -> None:
    """Make the clip of one chunk and note it in the run's state.

    It returns nothing, because Prefect keeps a state in memory for every result until the run ends.
    """
    async with _concurrency_slot(run.settings.endpoint_limit):
        run.state.synthesized[planned.digest] = await synthesizer.make(planned)


@asynccontextmanager
async def _concurrency_slot(limit: str | None) -> AsyncIterator[None]:
    """A slot of the global concurrency limit with this name; without a limit nothing is waited for."""
    if limit is None:
        yield
        return
    # If the server is away, the lease cannot be renewed; that must not cancel a job that is paid for.
    async with concurrency(
        limit,
        occupy=1,
        strict=True,
        lease_duration=LEASE_SECONDS,
        raise_on_lease_renewal_failure=False,
    ):
        yield


async def synthesize_missing(run: NarrationRun, plan: Plan) -> None:
    """Make every distinct missing clip, `settings.concurrency` at once; the first chain goes alone.

    A wrong model, key or voice thus costs one job. Clips and failures are noted in the run's state; only
    cancellation is raised. After a failure that concerns every chunk nothing more is submitted, and the
    remaining chunks fail with it.
    """
    chains = plan.missing_chains
    if not chains:
        return
    voice = await asyncio.to_thread(VoiceTransport.of, run.store.voices, plan.voice, plan.settings)
    async with open_endpoint(plan.settings) as endpoint:
        synthesizer = Synthesizer(
            run.store,
            endpoint,
            settings=plan.settings,
            voice=voice,
            budget=run.state.budget,
            flow_run_id=run.flow_run_id,
        )
        try:
            async with synthesis_progress(plan, run.state):
                await _synthesize_chains(run, chains, synthesizer)
        finally:
            synthesizer.close()


async def _synthesize_chains(
    run: NarrationRun, chains: list[list[PlannedChunk]], synthesizer: Synthesizer
) -> None:
    causes: list[BaseException] = []  # the failure that concerns every chunk, once there is one
    ended = {planned.digest: asyncio.Event() for chain in chains for planned in chain}

    async def synthesize_chain(chain: list[PlannedChunk]) -> None:
        for planned in chain:
            # The clip before is of an earlier chain or of this one, so that no chains wait in a circle.
            if planned.previous in ended:
                await ended[planned.previous].wait()
            await _synthesize_or_note(run, planned, synthesizer, causes)
            ended[planned.digest].set()

    await synthesize_chain(chains[0])
    remaining = iter(chains[1:])

    async def synthesize_remaining() -> None:
        for chain in remaining:
            await synthesize_chain(chain)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(run.settings.concurrency, len(chains) - 1)):
            group.create_task(synthesize_remaining())


async def _synthesize_or_note(
    run: NarrationRun, planned: PlannedChunk, synthesizer: Synthesizer, causes: list[BaseException]
) -> None:
    """Make one clip, or note in the run's state why it has none. With `causes` it is not tried."""
    state = run.state
    if causes:
        state.failures[planned.digest] = causes[0]
        return
    try:
        await synthesize_chunk(run, planned, synthesizer)
        state.failures.pop(planned.digest, None)
    except Exception as error:  # noqa: BLE001  # a bug with one chunk must not cost the clips of the others
        state.failures[planned.digest] = error
        if concerns_every_chunk(error) or (not state.synthesized and isinstance(error, EndpointError)):
            causes.append(error)
