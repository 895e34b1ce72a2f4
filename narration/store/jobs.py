"""Records of submitted jobs: the nearest thing to the idempotency key that the endpoint lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from narration.contract import Sha256
from narration.errors import Damaged
from narration.store.clips import UtcTime
from narration.store.layout import JOBS, job_key
from narration.store.objects import PARALLEL_READS, StoreCollection


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
    """One record for each clip that was asked for and not stored yet."""

    def find(self, digest: str) -> JobRecord | None:
        """Return the record of the clip's job; one that cannot be read is as good as none."""
        try:
            stored = self._objects.get(job_key(digest))
            record = JobRecord.model_validate_json(stored.data) if stored else None
        except (ValidationError, Damaged):
            return None
        return record if record is not None and record.digest == digest else None

    def put(self, record: JobRecord) -> None:
        """Remember a job in place of the one before it."""
        data = record.model_dump_json().encode()
        self._objects.put(job_key(record.digest), data, content_type="application/json")

    def delete(self, digest: str) -> None:
        """Forget the clip's job."""
        self._objects.delete(job_key(digest))

    def delete_many(self, digests: Collection[str]) -> None:
        """Forget the jobs of these clips, which are stored: who is killed before forgetting leaves them."""
        for info in list(self._objects.list(JOBS)):
            if PurePosixPath(info.key).stem in digests:
                self._objects.delete(info.key)

    def list(self) -> Iterator[JobRecord]:
        """Every job on record, in no particular order."""
        digests = [PurePosixPath(info.key).stem for info in self._objects.list(JOBS)]
        with ThreadPoolExecutor(PARALLEL_READS, "list-jobs") as pool:
            found = list(pool.map(self.find, digests))
        return (record for record in found if record is not None)
