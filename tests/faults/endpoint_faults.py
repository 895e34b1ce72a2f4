"""Faults between pipeline and endpoint: lost and wrong answers, jobs that end badly, wrong settings."""

from __future__ import annotations

import json

from support.http_exchange import Exchange
from support.http_proxy import HttpProxy
from support.proxy_actions import (
    Action,
    answer_with,
    cut_answer,
    edit_answer,
    lose_answer,
    replace_answer,
    reset_connection,
)

from faults.fault import ALWAYS, ERROR_PAGE, Arrange, Fault, at_endpoint
from faults.narration_case import NarrationCase
from faults.narration_requests import HEALTH, STATUS, SUBMIT

SUBMISSION = "answer to a submission lost or cut; a 502 page after the job was accepted"
STATUS_REQUESTS = (
    "429 on a submission or status request; 500, 503, 520, 524, half an answer or a reset connection "
    "on status requests"
)
JOB_LOST = "job FAILED by the platform or out of memory, TIMED_OUT, COMPLETED without output, unknown (404)"
JOB_OVER = "job FAILED for good, or CANCELLED by another client"
STATUS_SHOWN = "output shown before the end, unknown job status"
SETTINGS = "wrong API key, unknown endpoint, workers that crash at start"


def ended(**fields: object) -> Action:
    """Answer a status request with a job that has ended, and these fields."""
    return edit_answer(lambda answer: {"id": answer["id"], "delayTime": 5, "executionTime": 7} | fields)


def on_job(number: int, action: Action) -> Arrange:
    """Do `action` to every status request of the job submitted as the `number`th, counted from 1."""

    def arrange(case: NarrationCase) -> None:
        proxy = case.services.endpoint_proxy

        async def submit(exchange: Exchange) -> None:
            answer = await exchange.forward()
            job_id = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
            proxy.add_rule("GET", f"{STATUS}{job_id}$", action, times=ALWAYS)
            await exchange.send(answer)

        proxy.add_rule("POST", SUBMIT, submit, skip=number - 1)

    return arrange


def second_job_ends(**fields: object) -> Arrange:
    """The second job has ended, with these fields in the answer to each status request."""
    return on_job(2, ended(**fields))


def _server_errors(proxy: HttpProxy) -> None:
    for status in (500, 503, 520, 524):
        proxy.add_rule("GET", STATUS, answer_with(status, ERROR_PAGE))


def _broken_connections(proxy: HttpProxy) -> None:
    proxy.add_rule("GET", STATUS, cut_answer)
    proxy.add_rule("GET", STATUS, reset_connection)


_TRACEBACK = json.dumps({"error_type": "<class 'ValueError'>", "error_message": "x", "error_traceback": "T"})
_ENGINE_FAILURE = ended(
    status="FAILED", error="no", output={"error_code": "engine_failure", "retryable": False}
)

ENGINE_FAILURE = Fault(
    name="job FAILED for good: the engine cannot speak the text",
    row=JOB_OVER,
    arrange=on_job(2, _ENGINE_FAILURE),
    ends="fails",
    lost=1,
    message=("chunk ", "engine_failure", "start the same command again"),
)

ENDPOINT_FAULTS = [
    Fault(
        name="answer to a submission lost",
        row=SUBMISSION,
        arrange=at_endpoint("POST", SUBMIT, lose_answer, skip=1),
        lost=1,
    ),
    Fault(
        name="half an answer to a submission",
        row=SUBMISSION,
        arrange=at_endpoint("POST", SUBMIT, cut_answer, skip=1),
        lost=1,
    ),
    Fault(
        name="502 page after a job was accepted",
        row=SUBMISSION,
        arrange=at_endpoint("POST", SUBMIT, replace_answer(502, ERROR_PAGE), skip=1),
        lost=1,
    ),
    Fault(
        name="429 page with Retry-After on submissions",
        row=STATUS_REQUESTS,
        arrange=at_endpoint("POST", SUBMIT, answer_with(429, ERROR_PAGE, Retry_After="1"), skip=1, times=2),
    ),
    Fault(
        name="429 on status requests",
        row=STATUS_REQUESTS,
        arrange=at_endpoint("GET", STATUS, answer_with(429, ERROR_PAGE), times=2),
    ),
    Fault(
        name="500, 503, 520 and 524 on status requests",
        row=STATUS_REQUESTS,
        arrange=lambda case: _server_errors(case.services.endpoint_proxy),
    ),
    Fault(
        name="half an answer, then a reset connection, on status requests",
        row=STATUS_REQUESTS,
        arrange=lambda case: _broken_connections(case.services.endpoint_proxy),
    ),
    Fault(
        name="job FAILED: timed out after 1 retries",
        row=JOB_LOST,
        arrange=second_job_ends(status="FAILED", error="job timed out after 1 retries", retries=1),
        lost=1,
    ),
    Fault(
        name="job FAILED with a traceback",
        row=JOB_LOST,
        arrange=second_job_ends(status="FAILED", error=_TRACEBACK),
        lost=1,
    ),
    Fault(
        name="job FAILED: the worker was out of memory",
        row=JOB_LOST,
        arrange=second_job_ends(status="FAILED", error="no memory", output={"error_code": "out_of_memory"}),
        lost=1,
    ),
    ENGINE_FAILURE,
    Fault(
        name="first job FAILED for good",
        row=JOB_OVER,
        arrange=on_job(1, _ENGINE_FAILURE),
        ends="fails",
        lost=1,
        message=("chunk 1", "engine_failure", "start the same command again"),
    ),
    Fault(
        name="job CANCELLED by another client",
        row=JOB_OVER,
        arrange=second_job_ends(status="CANCELLED"),
        ends="fails",
        lost=1,
        message=("chunk ", "cancelled", "start the same command again"),
    ),
    Fault(name="job TIMED_OUT", row=JOB_LOST, arrange=second_job_ends(status="TIMED_OUT"), lost=1),
    Fault(
        name="job COMPLETED without output",
        row=JOB_LOST,
        arrange=second_job_ends(status="COMPLETED"),
        lost=1,
    ),
    Fault(name="job unknown, 404", row=JOB_LOST, arrange=on_job(2, answer_with(404, ERROR_PAGE)), lost=1),
    Fault(
        name="output shown before the end",
        row=STATUS_SHOWN,
        arrange=at_endpoint("GET", STATUS, ended(status="IN_PROGRESS", output={"percent": 50}), times=3),
    ),
    Fault(
        name="unknown job status",
        row=STATUS_SHOWN,
        arrange=at_endpoint("GET", STATUS, ended(status="REHEARSING"), times=3),
    ),
    Fault(
        name="wrong API key",
        row=SETTINGS,
        arrange=at_endpoint("*", "", answer_with(401), times=ALWAYS),
        ends="fails",
        message=("RUNPOD_API_KEY",),
    ),
    Fault(
        name="unknown endpoint, a 404 page",
        row=SETTINGS,
        arrange=at_endpoint("*", "", answer_with(404, ERROR_PAGE), times=ALWAYS),
        ends="fails",
        message=("RUNPOD_HIGGS_ENDPOINT_ID",),
    ),
    Fault(
        name="workers crash at start",
        row=SETTINGS,
        arrange=at_endpoint(
            "GET", HEALTH, edit_answer(lambda _: {"workers": {"unhealthy": 3}}), times=ALWAYS
        ),
        ends="fails",
        message=("unhealthy", "log"),
    ),
]
