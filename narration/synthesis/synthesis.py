"""One clip being made: the recorded job first, then seed after seed until one is good, then the store."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from narration.contract import SynthesisRequest, attempt_seed
from narration.endpoint import Endpoint, JobPolicy, JobResult
from narration.errors import (
    BadResult,
    BudgetError,
    Damaged,
    EndpointError,
    EndpointRefused,
    EndpointUnavailable,
    QualityError,
    StoreUnavailable,
)
from narration.pace import expected_seconds
from narration.planning import PlannedChunk
from narration.settings import Settings
from narration.store import AudioClip, JobRecord, RefusedAttempt, Store
from narration.synthesis.budget import Budget
from narration.synthesis.candidate import Candidate, describe, examine, reason
from narration.synthesis.continuity import Context, cut_context
from narration.voices.transport import VoiceTransport

T = TypeVar("T")

STORE_THREADS = 32  # they wait for the store
JUDGING_THREADS = 2
"""Each holds the processor and some MB while it decodes and measures a clip: more gain nothing, and the
memory of each stays with the process."""

DEADLINE_GRACE = 60.0  # s; the platform gives a job up at its ttl, the client a little later


@dataclass(frozen=True, slots=True)
class Made:
    """A clip that a run had to make, and what it took: jobs paid and worker seconds as reported."""

    clip: AudioClip
    jobs: int
    execution_seconds: float
    found: bool = False  # another run had stored it since the plan was made


@dataclass(slots=True)
class _Tally:
    """What one clip has cost so far."""

    jobs: int = 0
    execution_seconds: float = 0.0
    refused: list[RefusedAttempt] = field(default_factory=list)


class Synthesizer:
    """Makes clips for one run. Safe to use from many tasks of one event loop at once."""

    def __init__(
        self,
        store: Store,
        endpoint: Endpoint,
        *,
        settings: Settings,
        voice: VoiceTransport,
        budget: Budget,
        run: str,
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._settings = settings
        self._voice = voice
        self._budget = budget
        self._run = run
        self._unrecorded: dict[str, JobRecord] = {}  # what the store would not note; this run knows it still
        self._threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._judges = ThreadPoolExecutor(JUDGING_THREADS, thread_name_prefix="judge")
        self._policy = JobPolicy(
            execution_timeout_seconds=settings.job_timeout, ttl_seconds=settings.queue_timeout
        )

    def close(self) -> None:
        """Let the threads go."""
        for pool in (self._threads, self._judges):
            pool.shutdown(wait=False, cancel_futures=True)

    async def make(self, planned: PlannedChunk) -> Made:
        """Return the clip for `planned`, made if it is not there.

        Transient trouble is raised (`retryable`), for the caller's retry policy; what was
        submitted is recorded, so that the next call takes up the same job. A clip that comes
        out badly is tried again here with the next attempt's seed, `settings.attempts` in all.
        """
        identity = planned.digest
        stored = await self._in_thread(lambda: self._store.find_clip(identity))
        record = await self._find_job(identity)
        if stored is not None:
            if record is not None:  # of a run that died between storing the clip and forgetting its job
                await self._in_thread(lambda: self._store.drop_job(identity))
            return Made(stored, 0, 0.0, found=True)
        context = None if planned.previous is None else await self._context(planned.previous)
        tally = _Tally()
        best: Candidate | None = None
        first = record.attempt if record and record.attempt <= self._settings.attempts else 1
        for attempt in range(first, self._settings.attempts + 1):
            seed = self._seed(planned, attempt)
            try:
                result = await self._speak(planned, context, attempt, seed, record, tally)
                candidate = await asyncio.get_running_loop().run_in_executor(
                    self._judges, partial(examine, planned, result, attempt=attempt, seed=seed)
                )
            except (BadResult, QualityError) as error:
                tally.refused.append(RefusedAttempt(attempt=attempt, seed=seed, reason=str(error)))
                last: Exception = error
                record = None
                continue
            except (BudgetError, EndpointError):
                if best is None:
                    raise
                break  # a doubtful clip that is paid for is better than none
            record = None
            if candidate.verdict.acceptable:
                return await self._keep(planned, candidate, tally)
            tally.refused.append(RefusedAttempt(attempt=attempt, seed=seed, reason=reason(candidate.verdict)))
            if best is None or candidate.verdict.score > best.verdict.score:
                best = candidate
        if best is not None:
            return await self._keep(planned, best, tally)
        await self._in_thread(lambda: self._store.drop_job(identity))
        reasons = "; ".join(f"attempt {entry['attempt']}: {entry['reason']}" for entry in tally.refused)
        raise QualityError(f"no attempt gave a usable clip: {reasons}", retryable=False) from last

    def _seed(self, planned: PlannedChunk, attempt: int) -> int:
        asked = planned.request.seed
        return asked if asked is not None and attempt == 1 else attempt_seed(planned.digest, attempt)

    async def _speak(
        self,
        planned: PlannedChunk,
        context: Context | None,
        attempt: int,
        seed: int,
        record: JobRecord | None,
        tally: _Tally,
    ) -> JobResult:
        """The result of the recorded job if it can still be had, else of a new one."""
        if record is not None and record.attempt == attempt and record.endpoint == self._endpoint.endpoint_id:
            resumed = await self._resume(record)
            if resumed is not None:
                return resumed
        request = self._voice.attach(planned.request).model_copy(update={"seed": seed})
        if context is not None:
            request = _with_context(request, context)
        async with self._budget.job(expected_seconds(planned.text)):

            async def remember(job_id: str) -> None:
                tally.jobs += 1
                submitted = JobRecord(
                    digest=planned.digest,
                    endpoint=self._endpoint.endpoint_id,
                    job_id=job_id,
                    submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    attempt=attempt,
                    seed=seed,
                    run=self._run,
                )
                await self._record(submitted)

            try:
                result = await self._endpoint.synthesize(
                    request, self._policy, deadline_seconds=self._deadline, on_submitted=remember
                )
            except EndpointError as error:
                self._pay(error.execution_ms, tally)
                raise
            self._pay(result.execution_ms, tally)
        return result

    def _pay(self, execution_ms: float | None, tally: _Tally) -> None:
        """Account for a job that ended, well or not."""
        seconds = (execution_ms or 0) / 1000
        tally.execution_seconds += seconds
        self._budget.spend(seconds)

    @property
    def _deadline(self) -> float:
        return self._settings.queue_timeout + DEADLINE_GRACE

    async def _find_job(self, identity: str) -> JobRecord | None:
        record = await self._in_thread(lambda: self._store.find_job(identity))
        if identity in self._unrecorded:
            record = self._unrecorded[identity]
            await self._record(record)
        return record

    async def _record(self, record: JobRecord) -> None:
        """Note a job in the store; while that does not answer, here: what runs is not paid twice for it."""
        try:
            await self._in_thread(lambda: self._store.put_job(record))
        except StoreUnavailable:
            self._unrecorded[record.digest] = record
        else:
            self._unrecorded.pop(record.digest, None)

    async def _resume(self, record: JobRecord) -> JobResult | None:
        """The recorded job's result, or None when it has to be submitted again."""
        try:
            # Another run may wait for this job too: only one's own is cancelled with the run.
            watch = self._endpoint.attend if record.run == self._run else self._endpoint.result
            return await watch(record.job_id, deadline_seconds=self._deadline)
        except (EndpointRefused, EndpointUnavailable):
            raise
        except EndpointError:
            return None

    async def _context(self, previous: str) -> Context:
        clip = await self._in_thread(lambda: self._store.find_clip(previous))
        if clip is None:
            raise QualityError("the chunk before has no clip to continue from", retryable=False)
        try:
            flac = await self._in_thread(lambda: self._store.read_clip(clip))
        except Damaged:
            # Its size was right, so that no plan noticed: gone, it is made again by the next one.
            await self._in_thread(lambda: self._store.discard_clip(previous))
            raise
        return await self._in_thread(lambda: cut_context(flac, clip.sidecar.text))

    async def _keep(self, planned: PlannedChunk, kept: Candidate, tally: _Tally) -> Made:
        sidecar = describe(planned, kept, endpoint=self._endpoint.endpoint_id, refused=tally.refused)

        def store() -> AudioClip:
            clip = self._store.put_clip(planned.digest, kept.flac, sidecar)
            self._store.drop_job(planned.digest)
            return clip

        clip = await self._in_thread(store)
        return Made(clip, tally.jobs, tally.execution_seconds)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _with_context(request: SynthesisRequest, context: Context) -> SynthesisRequest:
    if context.text is None:
        return request
    encoded = base64.b64encode(context.flac).decode()
    return request.model_copy(update={"previous_text": context.text, "previous_audio_base64": encoded})
