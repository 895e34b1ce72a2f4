"""The requests at which tests cancel a run or kill its process."""

from __future__ import annotations

from dataclasses import dataclass

from faults.narration_case import CHUNKS
from faults.narration_requests import (
    CLIP,
    JOB_RECORD,
    MANIFEST,
    MASTER,
    SIDECAR,
    STATUS,
    STORE_PROBE,
    SUBMIT,
    NthRequest,
)

CANCEL_AT = {
    "planning": NthRequest("store", "GET", MANIFEST),
    "preflight": NthRequest("store", "PUT", STORE_PROBE),
    "submitting a job": NthRequest("endpoint", "POST", SUBMIT, 1),
    "recording a job": NthRequest("store", "PUT", JOB_RECORD, 1),
    "waiting for a job": NthRequest("endpoint", "GET", STATUS, 2),  # of at least four, one for each job
    "storing a clip": NthRequest("store", "PUT", CLIP, 1),
    "storing a sidecar": NthRequest("store", "PUT", SIDECAR, 1),
    "mastering": NthRequest("store", "GET", CLIP, 2),
    "publishing files": NthRequest("store", "PUT", MASTER),
    "publishing the manifest": NthRequest("store", "PUT", MANIFEST),
}
"""Phases of a run, by the request that marks each."""


@dataclass(frozen=True)
class KillPoint:
    """The process is killed at `request`; the ids of `unrecorded` jobs at most were not stored by then."""

    request: NthRequest
    unrecorded: int = 0


KILL_AT = {
    "between submission and job record": KillPoint(NthRequest("store", "PUT", JOB_RECORD, 1), CHUNKS - 1),
    "between job record and result": KillPoint(NthRequest("endpoint", "GET", STATUS, 3), CHUNKS - 1),
    "between audio and sidecar": KillPoint(NthRequest("store", "PUT", SIDECAR, 1)),
    "between sidecar and deletion of the job record": KillPoint(
        NthRequest("store", "DELETE", JOB_RECORD, 1), CHUNKS - 1
    ),
    "between master and manifest": KillPoint(NthRequest("store", "PUT", MANIFEST)),
}
"""The places where a killed process leaves half of two things that belong together."""
