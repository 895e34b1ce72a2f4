"""Path patterns of the requests that faults are put on, and `NthRequest`, which picks one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SUBMIT, STATUS, HEALTH = r"/run$", r"/status/", r"/health"
CLIP, SIDECAR = r"/clips/.*\.flac", r"/clips/.*\.json"
JOB_RECORD, MANIFEST, MASTER = r"/jobs/.*\.json", r"/manifest\.json", r"\.wav"
STORE_PROBE = r"/probe-"
TAKE_JOBS, POST_RESULT = r"/job-take", r"/job-done/"


@dataclass(frozen=True)
class NthRequest:
    """The pipeline's request of `method` and `path` to `service` that comes after the first `skip`."""

    service: Literal["endpoint", "store"]
    method: str
    path: str
    skip: int = 0
