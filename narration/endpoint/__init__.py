"""The RunPod endpoint: submit a synthesis request as a job, wait for it, take its clip or a typed error.

- `client`: `Endpoint`, the job API's calls and waiting for a job; `open_endpoint` from the settings
- `polling`: when to ask for a job's status, and asking until it has ended
- `pending_cancellations`: cancellations that outlive a cancelled caller
- `retrying`, `rate_limiter`: repeating a failed call; how many calls at once and per second
- `http_connection`, `responses`: one HTTP request; its response as a JSON object or an error
- `jobs`, `job_results`: a job's status, policy and health counts; an ended job as a clip or an error
- `messages`: text from outside made safe for a message
- `management`: RunPod's management API, which describes and changes endpoints

Errors are those below `EndpointError` in `narration.errors`; a wrong address, id, key or policy raises
`SettingsError` before anything is sent.
"""

from narration.endpoint.client import Endpoint, open_endpoint
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
    "open_endpoint",
    "result_of",
]
