"""An HTTP response of the job API: a JSON object, a failure that may pass, or a refusal with its remedy."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from pydantic_core import from_json

from narration.endpoint.messages import error_reason
from narration.endpoint.retrying import TransientFailure
from narration.errors import EndpointRefused, JobLost

_JOB_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
# RunPod does not document its response to cancelling an ended job; none of these means "still running".
_NOTHING_TO_CANCEL = _JOB_GONE | {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT}
_TRANSIENT_BELOW_500 = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """The response to a request for `path` below the endpoint's address; header names in lower case."""

    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def nothing_to_cancel(self) -> bool:
        """Whether this response to /cancel says that the job has ended or is unknown."""
        return self.status in _NOTHING_TO_CANCEL

    def json_object(self) -> Mapping[str, object]:
        """The JSON object in the body.

        Raises what `raise_for_status` raises, and `TransientFailure` if the body is not a JSON object.
        """
        self.raise_for_status()
        try:
            value = from_json(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise TransientFailure(
                f"the response is not a JSON object but {len(self.body)} other bytes", maybe_applied=True
            )
        return value

    def raise_for_status(self) -> None:
        """Return if the status is a success.

        Raises `TransientFailure` for a failure that may pass, `JobLost` for a job that the endpoint
        does not know, and `EndpointRefused` for every other status.
        """
        if 200 <= self.status < 300:
            return
        failure = f"HTTP {self.status}{self._explanation()}"
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TransientFailure(
                failure, maybe_applied=False, rate_limited=True, retry_after=retry_after(self.headers)
            )
        if self.status >= 500 or self.status in _TRANSIENT_BELOW_500:
            raise TransientFailure(failure, maybe_applied=True, retry_after=retry_after(self.headers))
        if self.status in _JOB_GONE and self.path.startswith("/status/"):
            job_id = self.path.rpartition("/")[2]
            raise JobLost(f"the endpoint does not know job {job_id}: it expired or never existed")
        raise EndpointRefused(f"the endpoint refused the call: {failure}", remedy=_remedy(self.status))

    def _explanation(self) -> str:
        """The reason in an error's body, "" where the body is not JSON: a page of HTML explains nothing."""
        try:
            reason = error_reason(from_json(self.body))
        except ValueError:
            return ""
        return f": {reason}" if reason else ""


def _remedy(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return "check RUNPOD_API_KEY: the key must exist and be allowed to use this endpoint"
        case HTTPStatus.PAYMENT_REQUIRED:
            return "check the balance of the RunPod account"
        case HTTPStatus.NOT_FOUND:
            return "check RUNPOD_HIGGS_ENDPOINT_ID: there is no such endpoint"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "give the voice by its address or by a shorter sample; RunPod takes 10 MB a job"
        case _ if 300 <= status < 400:
            return "check NARRATION_RUNPOD_URL: redirects are not followed, since the key is for one host"
        case _:
            return "the endpoint's reason for refusing is in this message"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: a whole number, or a date measured against its own clock."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    until = _date(value)
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until else None


def _date(value: str) -> datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for years and zones of twenty digits
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
