"""The job records of a run's clips, held in memory while the store is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from narration.errors import StoreUnavailable
from narration.store import JobCollection, JobRecord

T = TypeVar("T")


class JobRecords:
    """Finds, writes and deletes job records. A store outage loses none, so that no job is paid twice."""

    def __init__(self, jobs: JobCollection, threads: Executor) -> None:
        self._jobs = jobs
        self._threads = threads
        self._unwritten: dict[str, JobRecord] = {}  # by digest

    async def find(self, digest: str) -> JobRecord | None:
        """The record of the job last submitted for a clip."""
        record = await self._in_thread(lambda: self._jobs.find(digest))
        if digest in self._unwritten:
            record = self._unwritten[digest]
            await self.put(record)
        return record

    async def put(self, record: JobRecord) -> None:
        """Write a record; one that the store cannot take now is written by the next `find`."""
        try:
            await self._in_thread(lambda: self._jobs.put(record))
        except StoreUnavailable:
            self._unwritten[record.digest] = record
        else:
            self._unwritten.pop(record.digest, None)

    async def delete(self, digest: str) -> None:
        """Delete the record of a clip's job, whose result is stored or useless."""
        await self._in_thread(lambda: self._jobs.delete(digest))
        self._unwritten.pop(digest, None)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
