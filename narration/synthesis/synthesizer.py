"""Makes a clip: runs the jobs of its attempts, judges their results, and stores the clip to keep."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from narration.endpoint import Endpoint
from narration.errors import NarrationError, QualityError
from narration.planning import PlannedChunk
from narration.settings import Settings
from narration.store import AudioClip, JobRecord, Store
from narration.synthesis.attempt_policy import AttemptPolicy
from narration.synthesis.budget import Budget
from narration.synthesis.candidate import Candidate, judge_attempt
from narration.synthesis.clip_history import ClipHistory
from narration.synthesis.continuity import read_context
from narration.synthesis.job_records import JobRecords
from narration.synthesis.job_runner import JobRunner
from narration.synthesis.sidecar_builder import build_sidecar
from narration.voices.transport import VoiceTransport

T = TypeVar("T")

STORE_THREADS = 32  # they wait for the store
JUDGING_THREADS = 2
"""Each needs the processor and some MB while it decodes and measures a clip: more are no faster, and the
memory of each stays with the process."""


@dataclass(frozen=True, slots=True)
class SynthesizedClip:
    """A clip stored since the plan was made, with the jobs and seconds in slots that this run paid for."""

    clip: AudioClip
    jobs: int
    execution_seconds: float
    by_another_run: bool = False


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
        flow_run_id: str,
    ) -> None:
        self._clips = store.clips
        self._endpoint_id = endpoint.endpoint_id
        self._policy = AttemptPolicy(settings.attempts)
        self._histories: defaultdict[str, ClipHistory] = defaultdict(ClipHistory)  # by digest
        self._store_threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._judging_threads = ThreadPoolExecutor(JUDGING_THREADS, thread_name_prefix="judge")
        self._records = JobRecords(store.jobs, self._store_threads)
        self._jobs = JobRunner(
            endpoint, self._records, settings=settings, voice=voice, budget=budget, flow_run_id=flow_run_id
        )

    def close(self) -> None:
        """End the threads."""
        for threads in (self._store_threads, self._judging_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def make(self, planned: PlannedChunk) -> SynthesizedClip:
        """The clip of `planned`, made and stored unless the store has it by now.

        A clip with faults is tried again here, up to `settings.attempts` times. A transient failure
        (`retryable`) is raised for the caller to call again: the next call takes up the same job by its
        record, and knows the attempts that were made before.
        """
        digest = planned.digest
        history = self._histories[digest]
        stored = await self._in_thread(lambda: self._clips.find(digest))
        record = await self._records.find(digest)
        if stored is not None:
            if record is not None:  # its run died after it stored the clip and before it deleted the record
                await self._records.delete(digest)
            del self._histories[digest]
            return SynthesizedClip(
                stored, len(history.jobs), history.execution_seconds, by_another_run=history.kept is None
            )
        if history.kept is None:
            history.kept = await self._make_attempts(planned, record, history)
        return await self._store_clip(planned, history.kept, history)

    async def _make_attempts(
        self, planned: PlannedChunk, record: JobRecord | None, history: ClipHistory
    ) -> Candidate:
        """Make and judge attempts until the policy keeps a candidate."""
        context = None
        if planned.previous is not None:
            context = await self._in_thread(partial(read_context, self._clips, planned.previous))
        history.first_attempt = record.attempt if record and record.attempt <= self._policy.limit else 1
        while (attempt := self._policy.next_attempt(planned, history)) is not None:
            try:
                result = await self._jobs.run(planned, attempt, context, record, history)
                candidate = await asyncio.get_running_loop().run_in_executor(
                    self._judging_threads, judge_attempt, planned, attempt, result
                )
            except NarrationError as error:
                self._policy.after_failure(attempt, error, history)
            else:
                self._policy.after_candidate(candidate, history)
        try:
            return self._policy.candidate_to_keep(history)
        except QualityError:
            await self._records.delete(planned.digest)
            raise

    async def _store_clip(
        self, planned: PlannedChunk, kept: Candidate, history: ClipHistory
    ) -> SynthesizedClip:
        sidecar = build_sidecar(
            planned, kept, endpoint_id=self._endpoint_id, refused=history.refused.values()
        )
        clip = await self._in_thread(lambda: self._clips.put(planned.digest, kept.flac, sidecar))
        await self._records.delete(planned.digest)
        del self._histories[planned.digest]  # it holds megabytes of audio
        return SynthesizedClip(clip, len(history.jobs), history.execution_seconds)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._store_threads, call)
