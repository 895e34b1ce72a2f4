"""The client of the worker's endpoint: a request goes out, a clip or an error with a verdict comes back.

Its errors are those of `narration.errors` below `EndpointError`; a wrong address, id, key or policy
is a `SettingsError` before anything is sent.
"""

from narration.endpoint.client import Endpoint
from narration.endpoint.http_connection import Limits
from narration.endpoint.job_results import result_of
from narration.endpoint.jobs import Health, Job, JobPolicy, JobResult, JobStatus

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
