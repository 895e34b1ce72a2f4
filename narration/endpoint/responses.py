"""What an HTTP reply amounts to: an object, trouble that may pass, or a refusal with its remedy."""

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
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to the request for `path`, relative to the endpoint's address; `headers` in lower case."""

    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Mapping[str, object]:
        """The object in the answer. Raises what `check` raises, and `Trouble` where there is none."""
        self.check()
        try:
            document = from_json(self.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TransientFailure(
                f"the answer is no JSON object but {len(self.body)} other bytes", acted=True
            )
        return document

    def check(self) -> None:
        """Return if the endpoint did as it was asked.

        Raises `Trouble` for what may pass, `JobLost` for a job that is not known, and
        `EndpointRefused` for every other refusal.
        """
        if 200 <= self.status < 300:
            return
        told = f"HTTP {self.status}{self._explanation()}"
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TransientFailure(told, acted=False, crowded=True, retry_after=retry_after(self.headers))
        if self.status >= 500 or self.status in _PASSING:
            raise TransientFailure(told, acted=True, retry_after=retry_after(self.headers))
        if self.status in _JOB_GONE and self.path.startswith("/status/"):
            job_id = self.path.rpartition("/")[2]
            raise JobLost(f"job {job_id} is not known to the endpoint: it expired, or never was there")
        raise EndpointRefused(f"the endpoint refused: {told}", remedy=_remedy(self.status))

    def _explanation(self) -> str:
        """What an error's body says, where it is JSON: a page of HTML explains nothing."""
        try:
            said = error_reason(from_json(self.body))
        except ValueError:
            return ""
        return f": {said}" if said else ""


def _remedy(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return "check RUNPOD_API_KEY: a key that exists and may use this endpoint"
        case HTTPStatus.PAYMENT_REQUIRED:
            return "check the balance of the RunPod account"
        case HTTPStatus.NOT_FOUND:
            return "check RUNPOD_HIGGS_ENDPOINT_ID: the endpoint is not there"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "give the voice by its address or by a shorter sample; RunPod takes 10 MB a job"
        case _ if 300 <= status < 400:
            return "check NARRATION_RUNPOD_URL: redirects are not followed, since the key is for one host"
        case _:
            return "see what the endpoint says of the request"


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
