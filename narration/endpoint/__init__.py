"""The client of the worker's endpoint: a request goes out, a clip or an error with a verdict comes back.

Its errors are those of `narration.errors` below `EndpointError`; a wrong address, id, key or policy
is a `SettingsError` before anything is sent.
"""

from narration.endpoint.client import Endpoint
from narration.endpoint.jobs import Health, Job, JobPolicy, JobResult, JobStatus
from narration.endpoint.outcome import result_of
from narration.endpoint.wire import Limits

__all__ = [
    "Endpoint",
    "Health",
    "Job",
    "JobPolicy",
    "JobResult",
    "JobStatus",
    "Limits",
    "result_of",
]
