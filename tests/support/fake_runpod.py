"""A fake of RunPod's job API for one endpoint: jobs run by scenario, calls fail where a test says so."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from narration.contract import SynthesisRequest
from narration.endpoint import Endpoint, JobPolicy, JobResult, Limits

KEY = "rpa_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ENDPOINT_ID = "ep-1"
REQUEST = SynthesisRequest(prompt="Seven geese crossed the lake.", model="draft/test/engine-1", seed=7)
POLICY = JobPolicy()
REDISPATCH_SECONDS = 40.0
HTML = "<html><body><h1>Attention Required!</h1> Ray ID: 7</body></html>"


def wav(seconds: float = 0.05) -> bytes:
    """A small 24 kHz mono WAV of a ramp."""
    target = io.BytesIO()
    with wave.open(target, "wb") as sink:
        sink.setnchannels(1)
        sink.setsampwidth(2)
        sink.setframerate(24_000)
        sink.writeframes(b"".join((n % 20_000).to_bytes(2, "little") for n in range(int(seconds * 24_000))))
    return target.getvalue()


WAV = wav()


def clip_output(**changes: object) -> dict[str, Any]:
    """A worker's output by the contract, with `changes`; a field changed to None is left out."""
    output: dict[str, Any] = {
        "audio_base64": base64.b64encode(WAV).decode(),
        "duration": 0.05,
        "sample_rate": 24_000,
        "finish_reason": "stop",
        "frames": 2,
        "seed": 7,
        "model": "draft/test/engine-1",
    }
    output.update(changes)
    return {name: value for name, value in output.items() if value is not None}


def completed(output: object) -> dict[str, Any]:
    """The status of a job that a worker completed with `output`."""
    return {"status": "COMPLETED", "output": output}


@dataclass
class JobScenario:
    """How a job runs: seconds in the queue, seconds of execution, and its status at the end.

    After `dies_after` seconds of the first execution the worker dies, and the job is dispatched once
    more. `statuses`, if given, are the responses to /status instead, the last of them for ever.
    """

    queue: float = 0.0
    run: float = 2.0
    end: dict[str, Any] = field(default_factory=lambda: completed(clip_output()))
    progress: object = None
    dies_after: float | None = None
    retention: float = 1_800.0
    statuses: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FakeJob:
    """One submitted job. Times are the loop's, in seconds."""

    id: str
    submitted: float
    scenario: JobScenario
    body: dict[str, Any]
    cancelled: float | None = None

    def status(self, at: float) -> dict[str, Any] | None:
        """The response to /status at the time `at`; None once the job is unknown."""
        if statuses := self.scenario.statuses:
            return statuses.pop(0) if len(statuses) > 1 else statuses[0]
        began = self.submitted + self.scenario.queue
        retries: dict[str, Any] = {}
        if self.scenario.dies_after is not None and at >= began + self.scenario.dies_after:
            began += REDISPATCH_SECONDS
            retries = {"retries": 1}
        ended = began + self.scenario.run
        expiry = self.submitted + self.body["policy"]["ttl"] / 1000
        timing = {"delayTime": round((began - self.submitted) * 1000), "workerId": "w-1"} | retries
        if self.cancelled is not None:
            return {"status": "CANCELLED"}
        if at >= ended and ended <= expiry:
            ran = {"executionTime": round(self.scenario.run * 1000)}
            return None if at > ended + self.scenario.retention else self.scenario.end | timing | ran
        if at > expiry:
            return None
        if at < self.submitted + self.scenario.queue:
            return {"status": "IN_QUEUE"}
        shown = {} if self.scenario.progress is None else {"output": self.scenario.progress}
        return {"status": "IN_PROGRESS"} | timing | shown


@dataclass(frozen=True)
class ReceivedCall:
    """One request that arrived, at the loop's time `at`, and the status of the response."""

    operation: str
    at: float
    job_id: str
    status: int


Fault = Callable[[httpx.Request], httpx.Response | Exception]


class FakeRunPod:
    """RunPod's job API for one endpoint, by the event loop's time; a client uses it as `transport`.

    `before[operation]` and `after[operation]` are faults of the next calls: those in `before` replace
    the call, those in `after` only its response. Where a fault is None, one call succeeds.
    """

    def __init__(self, *scenarios: JobScenario, latency: float = 0.0) -> None:
        self.scenarios = deque(scenarios)
        self.latency = latency
        self.jobs: dict[str, FakeJob] = {}
        self.calls: list[ReceivedCall] = []
        self.before: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self.after: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self.allowed: dict[str, int] = {}  # calls of an operation in 10 s, at most
        self.retry_after: str | None = None
        self.workers: dict[str, int] = {"idle": 1, "running": 0, "throttled": 0, "unhealthy": 0}
        self.most_at_once: Counter[str] = Counter()
        self._at_once: Counter[str] = Counter()
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._respond)

    def count(self, operation: str) -> int:
        """The number of calls of `operation` that arrived."""
        return sum(call.operation == operation for call in self.calls)

    def cancelled(self) -> list[str]:
        """The ids of the jobs that were cancelled."""
        return [job.id for job in self.jobs.values() if job.cancelled is not None]

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        _, version, endpoint_id, operation, *rest = request.url.path.split("/")
        assert version == "v2"
        self._at_once[operation] += 1
        self.most_at_once[operation] = max(self.most_at_once[operation], self._at_once[operation])
        try:
            await asyncio.sleep(self.latency)
            response = self._reply(request, endpoint_id, operation, rest[0] if rest else "")
        finally:
            self._at_once[operation] -= 1
        return response

    def _reply(self, request: httpx.Request, endpoint_id: str, operation: str, job_id: str) -> httpx.Response:
        response: httpx.Response | Exception | None = None
        if self.before[operation] and (fault := self.before[operation].popleft()):
            response = fault(request)
        if response is None:
            response = self._perform(request, endpoint_id, operation, job_id)
            if self.after[operation] and (fault := self.after[operation].popleft()):
                response = fault(request)
        status = 0 if isinstance(response, Exception) else response.status_code
        self.calls.append(ReceivedCall(operation, now(), job_id, status))
        if isinstance(response, Exception):
            raise response
        return response

    def _perform(
        self, request: httpx.Request, endpoint_id: str, operation: str, job_id: str
    ) -> httpx.Response:
        refusal = self._refusal(request, endpoint_id, operation)
        if refusal is not None:
            return refusal
        match operation:
            case "run":
                return self._run(request)
            case "status":
                status = self._status(job_id)
                return httpx.Response(404) if status is None else httpx.Response(200, json=status)
            case "cancel":
                return self._cancel(job_id)
            case _:
                return httpx.Response(200, json=self._health())

    def _refusal(self, request: httpx.Request, endpoint_id: str, operation: str) -> httpx.Response | None:
        methods = {"run": "POST", "status": "GET", "cancel": "POST", "health": "GET"}
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return httpx.Response(401)
        if endpoint_id != ENDPOINT_ID or operation not in methods:
            return httpx.Response(404, html=HTML)
        if request.method != methods[operation]:
            return httpx.Response(405)
        if self._rate_limited(operation):
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return httpx.Response(429, html=HTML, headers=headers)
        return None

    def _rate_limited(self, operation: str) -> bool:
        recent = self._recent[operation]
        while recent and recent[0] <= now() - 10:
            recent.popleft()
        if len(recent) >= self.allowed.get(operation, 1_000_000):
            return True
        recent.append(now())
        return False

    def _run(self, request: httpx.Request) -> httpx.Response:
        if len(request.content) > 10_000_000:
            return httpx.Response(413, json={"error": "request body too large"})
        scenario = self.scenarios.popleft() if self.scenarios else JobScenario()
        job = FakeJob(f"job-{len(self.jobs) + 1}-u1", now(), scenario, json.loads(request.content))
        self.jobs[job.id] = job
        return httpx.Response(200, json={"id": job.id, "status": "IN_QUEUE"})

    def _status(self, job_id: str) -> dict[str, Any] | None:
        job = self.jobs.get(job_id)
        status = job.status(now()) if job else None
        return None if status is None else {"id": job_id} | status

    def _cancel(self, job_id: str) -> httpx.Response:
        status = self._status(job_id)
        if status is None:
            return httpx.Response(404)
        if status["status"] in ("COMPLETED", "FAILED", "TIMED_OUT"):
            return httpx.Response(400, json={"error": "job has ended"})
        self.jobs[job_id].cancelled = now()
        return httpx.Response(200, json={"id": job_id, "status": "CANCELLED"})

    def _health(self) -> dict[str, Any]:
        jobs = {"completed": 3, "failed": 1, "inProgress": 1, "inQueue": 2, "retried": 0, "novelty": 9}
        return {"jobs": jobs, "workers": self.workers | {"novelty": 4}, "novelty": {}}


def client_of(
    fake: FakeRunPod, *, endpoint_id: str = ENDPOINT_ID, key: str = KEY, limits: Limits | None = None
) -> Endpoint:
    """A client of `fake`."""
    return Endpoint(endpoint_id, key, transport=fake.transport, limits=limits)


async def record_nothing(job_id: str) -> None:
    """An `on_submitted` that records no job."""


async def synthesize(client: Endpoint, *, deadline: float = 300.0, **kwargs: Any) -> JobResult:
    """Submit `REQUEST` and wait for its clip."""
    return await client.synthesize(
        REQUEST, POLICY, deadline_seconds=deadline, **{"on_submitted": record_nothing} | kwargs
    )


async def synthesize_with(fake: FakeRunPod, **kwargs: Any) -> JobResult:
    """`synthesize` with a client of `fake` that is closed afterwards."""
    async with client_of(fake) as client:
        return await synthesize(client, **kwargs)


def responds(status: int, **kwargs: Any) -> Fault:
    """A fault: this HTTP response; `kwargs` are those of `httpx.Response`."""
    return lambda request: httpx.Response(status, request=request, **kwargs)


def breaks(kind: type[httpx.TransportError], message: str = "the connection broke") -> Fault:
    """A fault: this failure of the connection."""
    return lambda request: kind(message, request=request)


def now() -> float:
    """The event loop's time in seconds."""
    return asyncio.get_running_loop().time()
