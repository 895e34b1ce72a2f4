"""A programmable twin of RunPod's job API, and a raw server for what goes wrong below HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from narration.contract import SynthesisRequest
from narration.endpoint import Endpoint, JobPolicy, Limits

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
    """What a worker of the contract answers, with `changes`; a field changed to None is left out."""
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
    """The end of a job that a worker answered with `output`."""
    return {"status": "COMPLETED", "output": output}


@dataclass
class Plan:
    """What becomes of a job: seconds in the queue, seconds running, and how it ends.

    `dies_after` seconds of its first run its worker dies, and it is dispatched once more.
    `looks`, if given, are the answers to the looks at it instead, the last of them forever.
    """

    queue: float = 0.0
    run: float = 2.0
    end: dict[str, Any] = field(default_factory=lambda: completed(clip_output()))
    progress: object = None
    dies_after: float | None = None
    retention: float = 1_800.0
    looks: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FakeJob:
    """One submitted job. Times are the loop's, in seconds."""

    id: str
    submitted: float
    plan: Plan
    body: dict[str, Any]
    cancelled: float | None = None

    def document(self, now: float) -> dict[str, Any] | None:
        """What /status says at `now`; None once the job is forgotten."""
        if self.plan.looks:
            return self.plan.looks.pop(0) if len(self.plan.looks) > 1 else self.plan.looks[0]
        began = self.submitted + self.plan.queue
        retries: dict[str, Any] = {}
        if self.plan.dies_after is not None and now >= began + self.plan.dies_after:
            began += REDISPATCH_SECONDS
            retries = {"retries": 1}
        ended = began + self.plan.run
        expiry = self.submitted + self.body["policy"]["ttl"] / 1000
        timing = {"delayTime": round((began - self.submitted) * 1000), "workerId": "w-1"} | retries
        if self.cancelled is not None:
            return {"status": "CANCELLED"}
        if now >= ended and ended <= expiry:
            ran = {"executionTime": round(self.plan.run * 1000)}
            return None if now > ended + self.plan.retention else self.plan.end | timing | ran
        if now > expiry:
            return None
        if now < self.submitted + self.plan.queue:
            return {"status": "IN_QUEUE"}
        shown = {} if self.plan.progress is None else {"output": self.plan.progress}
        return {"status": "IN_PROGRESS"} | timing | shown


@dataclass(frozen=True)
class Call:
    """One request that arrived: `at` in loop seconds, the status it was answered with."""

    operation: str
    at: float
    job_id: str
    status: int


Trick = Callable[[httpx.Request], httpx.Response | Exception]


class FakeRunPod:
    """RunPod's job API for one endpoint, answering by loop time; `transport` goes into the client.

    `before[operation]` and `after[operation]` hold tricks for the next calls, played instead of
    acting or once the call has acted; a trick that is None lets one call pass.
    """

    def __init__(self, *plans: Plan, latency: float = 0.0) -> None:
        self.plans = deque(plans)
        self.latency = latency
        self.jobs: dict[str, FakeJob] = {}
        self.calls: list[Call] = []
        self.before: defaultdict[str, deque[Trick | None]] = defaultdict(deque)
        self.after: defaultdict[str, deque[Trick | None]] = defaultdict(deque)
        self.allowed: dict[str, int] = {}  # calls of an operation in 10 s
        self.retry_after: str | None = None
        self.workers: dict[str, int] = {"idle": 1, "running": 0, "throttled": 0, "unhealthy": 0}
        self.most_at_once: Counter[str] = Counter()
        self._at_once: Counter[str] = Counter()
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def count(self, operation: str) -> int:
        """How many calls of `operation` arrived."""
        return sum(call.operation == operation for call in self.calls)

    def cancelled(self) -> list[str]:
        """The jobs that were cancelled."""
        return [job.id for job in self.jobs.values() if job.cancelled is not None]

    async def _answer(self, request: httpx.Request) -> httpx.Response:
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
        answer: httpx.Response | Exception | None = None
        if self.before[operation] and (trick := self.before[operation].popleft()):
            answer = trick(request)
        if answer is None:
            answer = self._act(request, endpoint_id, operation, job_id)
            if self.after[operation] and (trick := self.after[operation].popleft()):
                answer = trick(request)
        status = 0 if isinstance(answer, Exception) else answer.status_code
        self.calls.append(Call(operation, _now(), job_id, status))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _act(self, request: httpx.Request, endpoint_id: str, operation: str, job_id: str) -> httpx.Response:
        refusal = self._refusal(request, endpoint_id, operation)
        if refusal is not None:
            return refusal
        match operation:
            case "run":
                return self._run(request)
            case "status":
                document = self._document(job_id)
                return httpx.Response(404) if document is None else httpx.Response(200, json=document)
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
        if self._crowded(operation):
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return httpx.Response(429, html=HTML, headers=headers)
        return None

    def _crowded(self, operation: str) -> bool:
        recent = self._recent[operation]
        while recent and recent[0] <= _now() - 10:
            recent.popleft()
        if len(recent) >= self.allowed.get(operation, 1_000_000):
            return True
        recent.append(_now())
        return False

    def _run(self, request: httpx.Request) -> httpx.Response:
        if len(request.content) > 10_000_000:
            return httpx.Response(413, json={"error": "request body too large"})
        plan = self.plans.popleft() if self.plans else Plan()
        job = FakeJob(f"job-{len(self.jobs) + 1}-u1", _now(), plan, json.loads(request.content))
        self.jobs[job.id] = job
        return httpx.Response(200, json={"id": job.id, "status": "IN_QUEUE"})

    def _document(self, job_id: str) -> dict[str, Any] | None:
        job = self.jobs.get(job_id)
        document = job.document(_now()) if job else None
        return None if document is None else {"id": job_id} | document

    def _cancel(self, job_id: str) -> httpx.Response:
        document = self._document(job_id)
        if document is None:
            return httpx.Response(404)
        if document["status"] in ("COMPLETED", "FAILED", "TIMED_OUT"):
            return httpx.Response(400, json={"error": "job has ended"})
        self.jobs[job_id].cancelled = _now()
        return httpx.Response(200, json={"id": job_id, "status": "CANCELLED"})

    def _health(self) -> dict[str, Any]:
        jobs = {"completed": 3, "failed": 1, "inProgress": 1, "inQueue": 2, "retried": 0, "novelty": 9}
        return {"jobs": jobs, "workers": self.workers | {"novelty": 4}, "novelty": {}}


def endpoint(
    fake: FakeRunPod, *, endpoint_id: str = ENDPOINT_ID, key: str = KEY, limits: Limits | None = None
) -> Endpoint:
    """A client of `fake`."""
    return Endpoint(endpoint_id, key, transport=fake.transport, limits=limits)


async def ignore(job_id: str) -> None:
    """An `on_submitted` that records nothing."""


def replies(status: int, **kwargs: Any) -> Trick:
    """A trick: this HTTP answer."""
    return lambda request: httpx.Response(status, request=request, **kwargs)


def breaks(kind: type[httpx.TransportError], message: str = "the wire broke") -> Trick:
    """A trick: this failure of the connection."""
    return lambda request: kind(message, request=request)


Behaviour = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def loopback(behaviour: Behaviour) -> AsyncIterator[str]:
    """A real server on this machine that hands every connection's first request head to `behaviour`."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]  # streams run this as a task
        try:
            await behaviour(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left first, or the test has ended
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/v2"
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


def _now() -> float:
    return asyncio.get_running_loop().time()
