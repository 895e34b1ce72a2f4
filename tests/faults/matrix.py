"""The fault matrix: what goes wrong, how it is made to, and what it may cost."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal

from support.proxy import (
    UNTOUCHED,
    Action,
    Exchange,
    Proxy,
    answers,
    does_afterwards,
    does_first,
    drops,
    falls_silent,
    halves_answer,
    halves_request,
    loses_answer,
    replaces_answer,
    rewrites,
    sends_instead,
    stalls,
)

from faults.scene import Scene

HTML = b"<html><body><h1>Attention Required!</h1> Ray ID: 7</body></html>"
ALWAYS = 1_000_000
CLIP, SIDECAR = r"/clips/.*\.flac", r"/clips/.*\.json"
RECORD, MANIFEST = r"/jobs/.*\.json", r"/manifest\.json"
TAKEN = r"/job-take"
DONE = r"/job-done/"
POSTS = 3  # of a result that is answered 500, before the SDK gives up; after a reset it does at once


@dataclass(frozen=True)
class Fault:
    """One way to go wrong. `lost` jobs at most are destroyed by it and may be paid again.

    A narration under it ends `complete`, or it `fails` with a message that holds each of `says`.
    """

    name: str
    arrange: Callable[[Scene], object]
    ends: Literal["complete", "fails"] = "complete"
    lost: int = 0
    says: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def _client(method: str, path: str, action: Action, **when: int) -> Callable[[Scene], object]:
    return lambda scene: scene.backstage.client.rule(method, path, action, **when)


def _worker(method: str, path: str, action: Action, **when: int) -> Callable[[Scene], object]:
    return lambda scene: scene.backstage.worker.rule(method, path, action, **when)


def _store(method: str, path: str, action: Action, **when: int) -> Callable[[Scene], object]:
    return lambda scene: scene.backstage.s3.rule(method, path, action, **when)


def _ended(**document: object) -> Action:
    """The job's end as the endpoint tells it."""
    return rewrites(lambda told: {"id": told["id"], "delayTime": 5, "executionTime": 7} | document)


def _s3_error(status: int, code: str) -> Action:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return answers(status, body, Content_Type="application/xml")


def _job(number: int, end: Action) -> Callable[[Scene], object]:
    """Whoever looks at that job, counted from 1, meets `end`, every time; the others are as they are."""

    def arrange(scene: Scene) -> None:
        client = scene.backstage.client

        async def submit(exchange: Exchange) -> None:
            answer = await exchange.forward()
            job = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
            client.rule("GET", f"/status/{job}$", end, times=ALWAYS)
            await exchange.send(answer)

        client.rule("POST", "/run$", submit, skip=number - 1)

    return arrange


def second_job_ends(**document: object) -> Callable[[Scene], object]:
    """The second job submitted ends as the endpoint tells it."""
    return _job(2, _ended(**document))


_TRACEBACK = json.dumps({"error_type": "<class 'ValueError'>", "error_message": "x", "error_traceback": "T"})


def _row_of_errors(client: Proxy) -> None:
    for status in (500, 503, 520, 524):
        client.rule("GET", "/status/", answers(status, HTML))


def _broken_looks(client: Proxy) -> None:
    client.rule("GET", "/status/", halves_answer)
    client.rule("GET", "/status/", drops)


def _end_worker(scene: Scene, moment: str, number: signal.Signals) -> None:
    """End the worker when a second job is submitted, taken or about to be answered."""
    backstage = scene.backstage

    def deed() -> None:
        backstage.end_worker(number)

    match moment:
        case "queued":
            backstage.client.rule("POST", "/run$", does_first(deed), skip=1)
        case "speaking":
            backstage.worker.rule("GET", TAKEN, _on_second_job(deed), times=ALWAYS)
        case _:
            backstage.worker.rule("POST", DONE, does_first(deed, drops), skip=1)


def _on_second_job(deed: Callable[[], None]) -> Action:
    """`deed` is done when jobs have been handed out for the second time."""
    handed = count(1)
    return does_afterwards(deed, when=lambda answer: _is_ok(answer) and next(handed) == 2)


def _is_ok(answer: bytes) -> bool:
    return b" 200 " in answer.partition(b"\r\n")[0]


def _lose_results(scene: Scene, end: Action, *, tries: int, times: int) -> None:
    """`times` posts end so; after `tries` the worker gives up, and the endpoint notices its silence."""
    backstage = scene.backstage
    posts = count(1)

    def half_a_minute_later() -> None:
        time.sleep(0.5)  # no ping speaks for the job any more
        backstage.ahead += 31

    async def act(exchange: Exchange) -> None:
        await end(exchange)
        if next(posts) % tries == 0:
            threading.Thread(target=half_a_minute_later, daemon=True).start()

    backstage.worker.rule("POST", DONE, act, times=times)


def _swallow_result(scene: Scene) -> None:
    """The worker waits for an answer to its post until the time of its job is over."""
    backstage = scene.backstage
    scene.env["NARRATION_JOB_TIMEOUT"] = "60"

    def a_minute_later() -> None:
        backstage.ahead += 61

    backstage.worker.rule("POST", DONE, does_first(a_minute_later, falls_silent(20)))


def _duplicate(worker: Proxy) -> None:
    """The second poll is answered with the first poll's jobs once more."""
    handed: list[bytes] = []

    async def act(exchange: Exchange) -> object:
        if len(handed) == 1:
            handed.append(handed[0])
            await exchange.send(handed[0])
            return None
        answer = await exchange.forward()
        if not handed and _is_ok(answer):
            handed.append(answer)
        await exchange.send(answer)
        return UNTOUCHED

    worker.rule("GET", TAKEN, act, times=ALWAYS)


def outage(scene: Scene, seconds: float, also: Callable[[], object] | None = None) -> None:
    """Once a second job was accepted, neither endpoint nor store can be reached; `also` is done then."""
    backstage = scene.backstage

    def pull_the_plug() -> None:
        def go() -> None:
            for proxy in (backstage.client, backstage.s3):
                backstage.call(proxy.vanish())
            if also is not None:
                also()
            time.sleep(seconds)
            for proxy in (backstage.client, backstage.s3):
                backstage.call(proxy.appear())

        threading.Thread(target=go, daemon=True).start()

    backstage.client.rule("POST", "/run$", does_afterwards(pull_the_plug), skip=1)


def _jump(scene: Scene) -> None:
    """The endpoint's clock is an hour ahead once a second job has been accepted."""

    def jump() -> None:
        scene.backstage.ahead += 3_600

    scene.backstage.client.rule("POST", "/run$", does_afterwards(jump), skip=1)


_FINAL = _ended(status="FAILED", error="no", output={"error_code": "engine_failure", "retryable": False})

FOR_GOOD = Fault(
    "job FAILED for good: the engine cannot say it",
    _job(2, _FINAL),
    ends="fails",
    lost=1,
    says=("chunk ", "engine_failure", "start the same command again"),
)

ENDPOINT = [
    Fault("answer to a submission lost", _client("POST", "/run$", loses_answer, skip=1), lost=1),
    Fault("half an answer to a submission", _client("POST", "/run$", halves_answer, skip=1), lost=1),
    Fault(
        "502 page after a submission was accepted",
        _client("POST", "/run$", replaces_answer(502, HTML), skip=1),
        lost=1,
    ),
    Fault(
        "429 on submitting, a page and Retry-After",
        _client("POST", "/run$", answers(429, HTML, Retry_After="1"), skip=1, times=2),
    ),
    Fault("429 on looking", _client("GET", "/status/", answers(429, HTML), times=2)),
    Fault("500, 503, 520 and 524 on looking", lambda scene: _row_of_errors(scene.backstage.client)),
    Fault("half an answer, a reset, on looking", lambda scene: _broken_looks(scene.backstage.client)),
    Fault(
        "job FAILED: timed out after 1 retries",
        second_job_ends(status="FAILED", error="job timed out after 1 retries", retries=1),
        lost=1,
    ),
    Fault(
        "job FAILED with a traceback",
        second_job_ends(status="FAILED", error=_TRACEBACK),
        lost=1,
    ),
    Fault(
        "job FAILED: out of memory, by the worker",
        second_job_ends(status="FAILED", error="no memory", output={"error_code": "out_of_memory"}),
        lost=1,
    ),
    FOR_GOOD,
    Fault(
        "first job FAILED for good",
        _job(1, _FINAL),
        ends="fails",
        lost=1,
        says=("chunk 1", "engine_failure", "start the same command again"),
    ),
    Fault(
        "job CANCELLED by somebody else",
        second_job_ends(status="CANCELLED"),
        ends="fails",
        lost=1,
        says=("chunk ", "cancelled", "start the same command again"),
    ),
    Fault("job TIMED_OUT", second_job_ends(status="TIMED_OUT"), lost=1),
    Fault("job COMPLETED without output", second_job_ends(status="COMPLETED"), lost=1),
    Fault("job gone, 404", _job(2, answers(404, HTML)), lost=1),
    Fault(
        "progress shown before the end",
        _client("GET", "/status/", _ended(status="IN_PROGRESS", output={"percent": 50}), times=3),
    ),
    Fault("unknown status", _client("GET", "/status/", _ended(status="REHEARSING"), times=3)),
    Fault(
        "key refused",
        _client("*", "", answers(401), times=ALWAYS),
        ends="fails",
        says=("RUNPOD_API_KEY",),
    ),
    Fault(
        "endpoint unknown, with a page",
        _client("*", "", answers(404, HTML), times=ALWAYS),
        ends="fails",
        says=("RUNPOD_HIGGS_ENDPOINT_ID",),
    ),
    Fault(
        "workers crash at start",
        _client("GET", "/health", rewrites(lambda _: {"workers": {"unhealthy": 3}}), times=ALWAYS),
        ends="fails",
        says=("unhealthy", "log"),
    ),
]

WORKER = [
    Fault(
        "result refused with 400: completed without output",
        _worker("POST", DONE, sends_instead(lambda _: {}, status=400)),
        lost=1,
    ),
    Fault("result answered 500, twice", _worker("POST", DONE, answers(500), times=2)),
    Fault("result taken, its receipt lost", _worker("POST", DONE, loses_answer, times=1)),
    Fault(
        "result answered 500, every time",
        lambda scene: _lose_results(scene, answers(500), tries=POSTS, times=POSTS),
    ),
    Fault(
        "result lost on its way, and lost again",
        lambda scene: _lose_results(scene, drops, tries=1, times=2),
        lost=1,
    ),
    Fault("result posted, and never answered", _swallow_result, lost=1),
    Fault("one job handed out twice", lambda scene: _duplicate(scene.backstage.worker)),
    Fault("worker killed while a job is queued", lambda scene: _end_worker(scene, "queued", signal.SIGKILL)),
    Fault("worker killed while it speaks", lambda scene: _end_worker(scene, "speaking", signal.SIGKILL)),
    Fault("worker killed while it posts", lambda scene: _end_worker(scene, "posting", signal.SIGKILL)),
    Fault("worker told to stop, a job queued", lambda scene: _end_worker(scene, "queued", signal.SIGTERM)),
    Fault(
        "worker told to stop while it speaks", lambda scene: _end_worker(scene, "speaking", signal.SIGTERM)
    ),
    Fault("worker told to stop while it posts", lambda scene: _end_worker(scene, "posting", signal.SIGTERM)),
]

STORE = [
    Fault("store answers 500", _store("*", "", _s3_error(500, "InternalError"), skip=11, times=3)),
    Fault("store answers 503 SlowDown", _store("PUT", "", _s3_error(503, "SlowDown"), skip=3, times=6)),
    Fault("store slow", _store("*", "", stalls(0.2), times=30)),
    Fault("connection lost while a clip goes up", _store("PUT", CLIP, halves_request, times=2)),
    Fault("receipt of a clip lost", _store("PUT", CLIP, loses_answer, times=2)),
    Fault("connection lost while the master goes up", _store("PUT", r"\.wav", halves_request)),
    Fault("half a clip read for mastering", _store("GET", CLIP, halves_answer, times=2)),
    Fault("receipt of the manifest lost", _store("PUT", MANIFEST, loses_answer)),
    Fault("job record refused, then not", _store("PUT", RECORD, drops, times=8)),
    Fault(
        "jobs not to be forgotten, then they are",
        _store("DELETE", RECORD, _s3_error(500, "InternalError"), times=8),
    ),
    Fault(
        "no room left for job records",
        _store("PUT", RECORD, _s3_error(507, "QuotaExceeded"), skip=1, times=ALWAYS),
        ends="fails",
        lost=3,
        says=("chunk ", "no room left", "free some"),
    ),
    Fault(
        "keys expire half way",
        _store("*", "", _s3_error(403, "ExpiredToken"), skip=30, times=ALWAYS),
        ends="fails",
        lost=3,
        says=("credentials have expired", "sign in again"),
    ),
    Fault(
        "no room left",
        _store("PUT", CLIP, _s3_error(507, "QuotaExceeded"), skip=1, times=ALWAYS),
        ends="fails",
        lost=0,
        says=("chunk ", "no room left", "free some"),
    ),
]

HANGING = Fault("store never answers", _store("PUT", CLIP, falls_silent(40)))
"""A request outlasts the client's own limit of half a minute, which tests shorten."""

OTHER = [
    Fault("network gone for a while", lambda scene: outage(scene, 3.0), lost=1),
    Fault("an hour passes at the endpoint", _jump, lost=3),
]
