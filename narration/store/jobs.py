"""Records of submitted jobs: by them a later run finds a job again instead of submitting a second one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from narration.contract import Sha256
from narration.errors import Damaged
from narration.store.clip_sidecar import UtcTime
from narration.store.collection import StoreCollection
from narration.store.layout import JOBS, digest_from_key, job_key
from narration.store.objects import JSON_CONTENT_TYPE, PARALLEL_REQUESTS


class JobRecord(BaseModel):
    """The job last submitted for a clip, by the flow run `run`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = 1
    digest: Sha256
    endpoint: str
    job_id: Annotated[str, Field(min_length=1)]
    submitted_at: UtcTime
    attempt: Annotated[int, Field(ge=1)]
    seed: int
    run: str = ""


class JobCollection(StoreCollection):
    """Job records by the digest of the clip they are for; a record is deleted once its clip is stored."""

    def find(self, digest: str) -> JobRecord | None:
        """Return the record of the clip's job; None where there is none that can be read."""
        try:
            stored = self._objects.get(job_key(digest))
            record = JobRecord.model_validate_json(stored.data) if stored else None
        except (ValidationError, Damaged):
            return None
        return record if record is not None and record.digest == digest else None

    def put(self, record: JobRecord) -> None:
        """Store a record, replacing the one of an earlier job for the clip."""
        data = record.model_dump_json().encode()
        self._objects.put(job_key(record.digest), data, content_type=JSON_CONTENT_TYPE)

    def delete(self, digest: str) -> None:
        """Delete the record of the clip's job."""
        self._objects.delete(job_key(digest))

    def delete_many(self, digests: Collection[str]) -> None:
        """Delete the records of these clips' jobs, which a run that was killed may have left behind."""
        for info in list(self._objects.list(JOBS)):
            if digest_from_key(info.key) in digests:
                self._objects.delete(info.key)

    def list(self) -> Iterator[JobRecord]:
        """Every record that can be read, in no particular order."""
        digests = [digest_from_key(info.key) for info in self._objects.list(JOBS)]
        with ThreadPoolExecutor(PARALLEL_REQUESTS, "list-jobs") as pool:
            records = list(pool.map(self.find, digests))
        return (record for record in records if record is not None)
