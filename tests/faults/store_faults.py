"""Faults between pipeline and S3 server: errors, cut transfers, expired credentials, no room."""

from __future__ import annotations

from support.proxy_actions import (
    Action,
    answer_with,
    cut_answer,
    cut_request,
    delay,
    lose_answer,
    never_answer,
    reset_connection,
)

from faults.fault import ALWAYS, Fault, at_store
from faults.narration_requests import CLIP, JOB_RECORD, MANIFEST, MASTER

STORE_UNRELIABLE = (
    "store answers 500 or 503 SlowDown, slowly or never; an upload, a download or the answer to an upload cut"
)
RECORDS_DELAYED = "job records refused for a while, on writing or on deletion"
NO_ROOM_FOR_RECORDS = "no room for job records"
CREDENTIALS_EXPIRED = "store credentials expire during the run"
NO_ROOM = "no room for clips, in the store or on the disk"


def _s3_error(status: int, code: str) -> Action:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return answer_with(status, body, Content_Type="application/xml")


STORE_FAULTS = [
    Fault(
        name="store answers 500",
        row=STORE_UNRELIABLE,
        arrange=at_store("*", "", _s3_error(500, "InternalError"), skip=11, times=3),
    ),
    Fault(
        name="store answers 503 SlowDown",
        row=STORE_UNRELIABLE,
        arrange=at_store("PUT", "", _s3_error(503, "SlowDown"), skip=3, times=6),
    ),
    Fault(name="store slow", row=STORE_UNRELIABLE, arrange=at_store("*", "", delay(0.2), times=30)),
    Fault(
        name="connection reset during a clip's upload",
        row=STORE_UNRELIABLE,
        arrange=at_store("PUT", CLIP, cut_request, times=2),
    ),
    Fault(
        name="answer to a clip's upload lost",
        row=STORE_UNRELIABLE,
        arrange=at_store("PUT", CLIP, lose_answer, times=2),
    ),
    Fault(
        name="connection reset during the master's upload",
        row=STORE_UNRELIABLE,
        arrange=at_store("PUT", MASTER, cut_request),
    ),
    Fault(
        name="half a clip downloaded for mastering",
        row=STORE_UNRELIABLE,
        arrange=at_store("GET", CLIP, cut_answer, times=2),
    ),
    Fault(
        name="answer to the manifest's upload lost",
        row=STORE_UNRELIABLE,
        arrange=at_store("PUT", MANIFEST, lose_answer),
    ),
    Fault(
        name="job records cannot be written for a while",
        row=RECORDS_DELAYED,
        arrange=at_store("PUT", JOB_RECORD, reset_connection, times=8),
    ),
    Fault(
        name="job records cannot be deleted for a while",
        row=RECORDS_DELAYED,
        arrange=at_store("DELETE", JOB_RECORD, _s3_error(500, "InternalError"), times=8),
    ),
    Fault(
        name="no room for job records",
        row=NO_ROOM_FOR_RECORDS,
        arrange=at_store("PUT", JOB_RECORD, _s3_error(507, "QuotaExceeded"), skip=1, times=ALWAYS),
        ends="fails",
        lost=3,
        message=("chunk ", "no room left", "free some"),
    ),
    Fault(
        name="store credentials expire",
        row=CREDENTIALS_EXPIRED,
        arrange=at_store("*", "", _s3_error(403, "ExpiredToken"), skip=30, times=ALWAYS),
        ends="fails",
        lost=3,
        message=("credentials have expired", "sign in again"),
    ),
    Fault(
        name="no room for clips",
        row=NO_ROOM,
        arrange=at_store("PUT", CLIP, _s3_error(507, "QuotaExceeded"), skip=1, times=ALWAYS),
        ends="fails",
        message=("chunk ", "no room left", "free some"),
    ),
]

STORE_NEVER_ANSWERS = Fault(
    name="store never answers", row=STORE_UNRELIABLE, arrange=at_store("PUT", CLIP, never_answer(40))
)
"""Takes the store's own time limit of half a minute: `benchmarks/chaos.py` waits for it, tests shorten it."""
