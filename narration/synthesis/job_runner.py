"""Runs the job of one attempt: resumes the job on record, or submits, records and pays for a new one."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from narration.contract import SynthesisRequest
from narration.endpoint import Endpoint, JobPolicy, JobResult
from narration.errors import EndpointError, EndpointRefused, EndpointUnavailable
from narration.planning import PlannedChunk
from narration.settings import Settings
from narration.speech_duration import expected_seconds
from narration.store import JobRecord
from narration.synthesis.budget import Budget
from narration.synthesis.candidate import Attempt
from narration.synthesis.clip_history import ClipHistory
from narration.synthesis.continuity import Context
from narration.synthesis.job_records import JobRecords
from narration.voices.transport import VoiceTransport

DEADLINE_GRACE = 60.0  # s that the client waits longer than a job's time to live at the endpoint


class JobRunner:
    """Runs jobs for one flow run. Safe to use from many tasks of one event loop at once."""

    def __init__(
        self,
        endpoint: Endpoint,
        records: JobRecords,
        *,
        settings: Settings,
        voice: VoiceTransport,
        budget: Budget,
        flow_run_id: str,
    ) -> None:
        self._endpoint = endpoint
        self._records = records
        self._voice = voice
        self._budget = budget
        self._flow_run_id = flow_run_id
        self._policy = JobPolicy(
            execution_timeout_seconds=settings.job_timeout, ttl_seconds=settings.queue_timeout
        )
        self._deadline = settings.queue_timeout + DEADLINE_GRACE  # s

    async def run(
        self,
        planned: PlannedChunk,
        attempt: Attempt,
        context: Context | None,
        record: JobRecord | None,
        history: ClipHistory,
    ) -> JobResult:
        """The result of an attempt's job: of the one on record if it is this attempt's, else of a new one.

        `context` is the clip before, under continuity. Raises `EndpointError` and `BudgetError`.
        """
        if record is not None and self._belongs_to(record, attempt):
            result = await self._resume(record, history)
            if result is not None:
                return result
        request = self._voice.attach(planned.request).model_copy(update={"seed": attempt.seed})
        if context is not None:
            request = _with_context(request, context)
        async with self._budget.reserve(expected_seconds(planned.text)):
            return await self._submit(planned.digest, attempt, request, history)

    async def _submit(
        self, digest: str, attempt: Attempt, request: SynthesisRequest, history: ClipHistory
    ) -> JobResult:
        async def record_job(job_id: str) -> None:
            history.jobs.append(job_id)
            await self._records.put(self._record(digest, job_id, attempt))

        try:
            result = await self._endpoint.synthesize(
                request, self._policy, deadline_seconds=self._deadline, on_submitted=record_job
            )
        except EndpointError as error:
            if history.jobs:
                self._pay(history.jobs[-1], error.execution_ms, history)
            raise
        self._pay(result.job_id, result.slot_ms, history)
        return result

    async def _resume(self, record: JobRecord, history: ClipHistory) -> JobResult | None:
        """The result of the recorded job; None where it can no longer be had."""
        try:
            # Another run may wait for this job too, so that only a job of this run is cancelled with it.
            result = await self._endpoint.result(
                record.job_id,
                deadline_seconds=self._deadline,
                cancel_unfinished=record.run == self._flow_run_id,
            )
        except (EndpointRefused, EndpointUnavailable):
            raise
        except EndpointError as error:
            self._pay(record.job_id, error.execution_ms, history)
            return None
        self._pay(record.job_id, result.slot_ms, history)
        return result

    def _pay(self, job_id: str, execution_ms: float | None, history: ClipHistory) -> None:
        self._budget.spend(history.pay(job_id, execution_ms))

    def _belongs_to(self, record: JobRecord, attempt: Attempt) -> bool:
        return record.attempt == attempt.number and record.endpoint == self._endpoint.endpoint_id

    def _record(self, digest: str, job_id: str, attempt: Attempt) -> JobRecord:
        return JobRecord(
            digest=digest,
            endpoint=self._endpoint.endpoint_id,
            job_id=job_id,
            submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
            attempt=attempt.number,
            seed=attempt.seed,
            run=self._flow_run_id,
        )


def _with_context(request: SynthesisRequest, context: Context) -> SynthesisRequest:
    if context.text is None:
        return request
    encoded = base64.b64encode(context.flac).decode()
    return request.model_copy(update={"previous_text": context.text, "previous_audio_base64": encoded})
