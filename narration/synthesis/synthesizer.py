"""One clip being made: the recorded job first, then seed after seed until one is good, then the store."""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
)
from narration.planning import PlannedChunk
from narration.settings import Settings
from narration.speech_duration import expected_seconds
from narration.store import AudioClip, JobRecord, Store
from narration.synthesis.budget import Budget
from narration.synthesis.candidate import Candidate, build_sidecar, describe_faults, judge_attempt
from narration.synthesis.clip_history import ClipHistory
from narration.synthesis.continuity import Context, cut_context
from narration.synthesis.job_records import JobRecords
from narration.voices.transport import VoiceTransport

T = TypeVar("T")

STORE_THREADS = 32  # they wait for the store
JUDGING_THREADS = 2
"""Each holds the processor and some MB while it decodes and measures a clip: more gain nothing, and the
memory of each stays with the process."""

DEADLINE_GRACE = 60.0  # s; the platform gives a job up at its ttl, the client a little later


@dataclass(frozen=True, slots=True)
class SynthesizedClip:
    """A clip that a run had to make, and what it took: jobs paid and worker seconds as reported."""

    clip: AudioClip
    jobs: int
    execution_seconds: float
    found: bool = False  # another run had stored it since the plan was made


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
        self._accounts: defaultdict[str, ClipHistory] = defaultdict(ClipHistory)  # by digest
        self._threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._jobs = JobRecords(store, self._threads)
        self._judges = ThreadPoolExecutor(JUDGING_THREADS, thread_name_prefix="judge")
        self._policy = JobPolicy(
            execution_timeout_seconds=settings.job_timeout, ttl_seconds=settings.queue_timeout
        )

    def close(self) -> None:
        """Let the threads go."""
        for pool in (self._threads, self._judges):
            pool.shutdown(wait=False, cancel_futures=True)

    async def make(self, planned: PlannedChunk) -> SynthesizedClip:
        """Return the clip for `planned`, made if it is not there.

        Transient trouble is raised (`retryable`), for the caller's retry policy; what was
        submitted is recorded, so that the next call takes up the same job. A clip that comes
        out badly is tried again here with the next attempt's seed, `settings.attempts` in all;
        what a call learned of attempts before trouble ended it, the next one knows.
        """
        identity = planned.digest
        account = self._accounts[identity]
        stored = await self._in_thread(lambda: self._store.clips.find(identity))
        record = await self._jobs.find(identity)
        if stored is not None:
            if record is not None:  # of a run that died between storing the clip and forgetting its job
                await self._jobs.forget(identity)
            del self._accounts[identity]
            return SynthesizedClip(
                stored, len(account.jobs), account.execution_seconds, found=account.kept is None
            )
        if account.kept is None:
            account.kept = await self._find_good(planned, record, account)
        return await self._keep(planned, account.kept, account)

    async def _find_good(
        self, planned: PlannedChunk, record: JobRecord | None, account: ClipHistory
    ) -> Candidate:
        """The first attempt that is good, or the best of those allowed."""
        context = None if planned.previous is None else await self._context(planned.previous)
        recorded = record.attempt if record and record.attempt <= self._settings.attempts else 1
        for attempt in range(account.first(recorded), self._settings.attempts + 1):
            seed = self._seed(planned, attempt)
            try:
                result = await self._speak(planned, context, attempt, seed, record, account)
                candidate = await asyncio.get_running_loop().run_in_executor(
                    self._judges, partial(judge_attempt, planned, result, attempt=attempt, seed=seed)
                )
            except (BadResult, QualityError) as error:
                account.refuse(attempt, seed, str(error))
                continue
            except (BudgetError, EndpointError) as error:
                if account.best is None:
                    raise
                if not error.retryable:
                    break  # a doubtful clip that is paid for is better than none
                account.refuse(attempt, seed, str(error))
                continue
            if candidate.verdict.acceptable:
                return candidate
            account.refuse(attempt, seed, describe_faults(candidate.verdict))
            account.keep_better(candidate)
        if account.best is not None:
            return account.best
        await self._jobs.forget(planned.digest)
        reasons = "; ".join(f"attempt {attempt}: {why['reason']}" for attempt, why in account.refused.items())
        raise QualityError(f"no attempt gave a usable clip: {reasons}", retryable=False)

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
        account: ClipHistory,
    ) -> JobResult:
        """The result of the recorded job if it can still be had, else of a new one."""
        if record is not None and record.attempt == attempt and record.endpoint == self._endpoint.endpoint_id:
            resumed = await self._resume(record, account)
            if resumed is not None:
                return resumed
        request = self._voice.attach(planned.request).model_copy(update={"seed": seed})
        if context is not None:
            request = _with_context(request, context)
        async with self._budget.job(expected_seconds(planned.text)):

            async def remember(job_id: str) -> None:
                account.jobs.append(job_id)
                submitted = JobRecord(
                    digest=planned.digest,
                    endpoint=self._endpoint.endpoint_id,
                    job_id=job_id,
                    submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    attempt=attempt,
                    seed=seed,
                    run=self._run,
                )
                await self._jobs.note(submitted)

            try:
                result = await self._endpoint.synthesize(
                    request, self._policy, deadline_seconds=self._deadline, on_submitted=remember
                )
            except EndpointError as error:
                if account.jobs:
                    self._pay(account.jobs[-1], error.execution_ms, account)
                raise
            self._pay(result.job_id, result.execution_ms, account)
        return result

    def _pay(self, job_id: str, execution_ms: float | None, account: ClipHistory) -> None:
        self._budget.spend(account.pay(job_id, execution_ms))

    @property
    def _deadline(self) -> float:
        return self._settings.queue_timeout + DEADLINE_GRACE

    async def _resume(self, record: JobRecord, account: ClipHistory) -> JobResult | None:
        """The recorded job's result, or None when it has to be submitted again."""
        try:
            # Another run may wait for this job too: only one's own is cancelled with the run.
            result = await self._endpoint.result(
                record.job_id,
                deadline_seconds=self._deadline,
                cancel_unfinished=record.run == self._run,
            )
        except (EndpointRefused, EndpointUnavailable):
            raise
        except EndpointError as error:
            self._pay(record.job_id, error.execution_ms, account)
            return None
        self._pay(record.job_id, result.execution_ms, account)
        return result

    async def _context(self, previous: str) -> Context:
        clip = await self._in_thread(lambda: self._store.clips.find(previous))
        if clip is None:
            raise QualityError("the chunk before has no clip to continue from", retryable=False)
        try:
            flac = await self._in_thread(lambda: self._store.clips.read(clip))
        except Damaged:
            # Its size was right, so that no plan noticed: gone, it is made again by the next one.
            await self._in_thread(lambda: self._store.clips.delete_if_damaged(previous))
            raise
        return await self._in_thread(lambda: cut_context(flac, clip.sidecar.text))

    async def _keep(self, planned: PlannedChunk, kept: Candidate, account: ClipHistory) -> SynthesizedClip:
        refused = list(account.refused.values())
        sidecar = build_sidecar(planned, kept, endpoint=self._endpoint.endpoint_id, refused=refused)
        clip = await self._in_thread(lambda: self._store.clips.put(planned.digest, kept.flac, sidecar))
        await self._jobs.forget(planned.digest)
        del self._accounts[planned.digest]  # megabytes of audio among it
        return SynthesizedClip(clip, len(account.jobs), account.execution_seconds)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _with_context(request: SynthesisRequest, context: Context) -> SynthesisRequest:
    if context.text is None:
        return request
    encoded = base64.b64encode(context.flac).decode()
    return request.model_copy(update={"previous_text": context.text, "previous_audio_base64": encoded})
