"""Faults of the worker and of its connection to the endpoint: lost results, killed workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Literal

from support.http_exchange import Exchange
from support.proxy_actions import (
    NOT_APPLIED,
    Action,
    answer_with,
    call_after,
    call_before,
    edit_request,
    lose_answer,
    never_answer,
    reset_connection,
)

from faults.fault import ALWAYS, Fault, at_worker
from faults.narration_case import NarrationCase
from faults.narration_requests import POST_RESULT, SUBMIT, TAKE_JOBS

RESULT_LOST = "worker's result refused with 400, lost from both dispatches, or never answered"
RESULT_KEPT = (
    "worker's result answered 500, twice or on every try; the answer to it lost; one job handed out twice"
)
WORKER_ENDED = "worker killed (SIGKILL) or stopped (SIGTERM) while a job is queued, is spoken or is posted"

Signal = Literal["kill", "terminate"]
Phase = Literal["queued", "spoken", "posted"]
_SIGNALS: tuple[Signal, ...] = ("kill", "terminate")
_PHASES: tuple[Phase, ...] = ("queued", "spoken", "posted")
_TRIES = 3  # of the SDK's worker to post a result that is answered 500; after a reset it makes none


def _lose_results(case: NarrationCase, action: Action, *, tries: int, times: int) -> None:
    """Do `action` to `times` posts of results.

    After `tries` of them the worker gives up, and the endpoint's clock jumps past the silence
    after which it counts the job as lost.
    """
    posts = count(1)

    def jump() -> None:
        time.sleep(0.5)  # until the worker's pings no longer name the job
        case.services.clock_offset += 31

    async def act(exchange: Exchange) -> None:
        await action(exchange)
        if next(posts) % tries == 0:
            threading.Thread(target=jump, daemon=True).start()

    case.services.worker_proxy.add_rule("POST", POST_RESULT, act, times=times)


def _never_answer_result(case: NarrationCase) -> None:
    """The worker waits for the answer to its post; meanwhile the time limit of its job passes."""
    case.env["NARRATION_JOB_TIMEOUT"] = "60"

    def jump() -> None:
        case.services.clock_offset += 61

    case.services.worker_proxy.add_rule("POST", POST_RESULT, call_before(jump, never_answer(20)))


def _hand_out_twice(case: NarrationCase) -> None:
    """Answer the worker's second request for jobs with the jobs that the first one got."""
    answers: list[bytes] = []

    async def act(exchange: Exchange) -> object:
        if len(answers) == 1:
            answers.append(answers[0])
            await exchange.send(answers[0])
            return None
        answer = await exchange.forward()
        if not answers and _is_ok(answer):
            answers.append(answer)
        await exchange.send(answer)
        return NOT_APPLIED

    case.services.worker_proxy.add_rule("GET", TAKE_JOBS, act, times=ALWAYS)


def _end_worker(signal: Signal, phase: Phase, case: NarrationCase) -> None:
    """End the worker when the second job has been submitted or handed out, or its result is posted."""
    services = case.services

    def end() -> None:
        process = services.worker_process()
        process.kill() if signal == "kill" else process.terminate()

    match phase:
        case "queued":
            services.endpoint_proxy.add_rule("POST", SUBMIT, call_before(end), skip=1)
        case "spoken":
            services.worker_proxy.add_rule("GET", TAKE_JOBS, _on_second_handout(end), times=ALWAYS)
        case "posted":
            services.worker_proxy.add_rule("POST", POST_RESULT, call_before(end, reset_connection), skip=1)


def _on_second_handout(function: Callable[[], None]) -> Action:
    """Call `function` once jobs have been handed out for the second time."""
    handouts = count(1)
    return call_after(function, when=lambda answer: _is_ok(answer) and next(handouts) == 2)


def _is_ok(answer: bytes) -> bool:
    return b" 200 " in answer.partition(b"\r\n")[0]


WORKER_FAULTS = [
    Fault(
        name="result refused with 400: completed without output",
        row=RESULT_LOST,
        arrange=at_worker("POST", POST_RESULT, edit_request(lambda _: {}, status=400)),
        lost=1,
    ),
    Fault(
        name="result answered 500, twice",
        row=RESULT_KEPT,
        arrange=at_worker("POST", POST_RESULT, answer_with(500), times=2),
    ),
    Fault(
        name="result accepted, the answer lost",
        row=RESULT_KEPT,
        arrange=at_worker("POST", POST_RESULT, lose_answer),
    ),
    Fault(
        name="result answered 500, on every try",
        row=RESULT_KEPT,
        arrange=lambda case: _lose_results(case, answer_with(500), tries=_TRIES, times=_TRIES),
    ),
    Fault(
        name="result lost from both dispatches",
        row=RESULT_LOST,
        arrange=lambda case: _lose_results(case, reset_connection, tries=1, times=2),
        lost=1,
    ),
    Fault(name="result posted and never answered", row=RESULT_LOST, arrange=_never_answer_result, lost=1),
    Fault(name="one job handed out twice", row=RESULT_KEPT, arrange=_hand_out_twice),
    *(
        Fault(
            name=f"worker {'killed' if signal == 'kill' else 'stopped'} while a job is {phase}",
            row=WORKER_ENDED,
            arrange=partial(_end_worker, signal, phase),
        )
        for signal in _SIGNALS
        for phase in _PHASES
    ),
]
