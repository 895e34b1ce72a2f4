"""The jobs on record, and in this run's memory while the store does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from narration.errors import StoreUnavailable
from narration.store import JobRecord, Store

T = TypeVar("T")


class JobRecords:
    """What runs is not paid twice for a store that stutters: it is noted here until the store takes it."""

    def __init__(self, store: Store, threads: Executor) -> None:
        self._store = store
        self._threads = threads
        self._unrecorded: dict[str, JobRecord] = {}

    async def find(self, digest: str) -> JobRecord | None:
        """The job last submitted for a clip."""
        record = await self._in_thread(lambda: self._store.jobs.find(digest))
        if digest in self._unrecorded:
            record = self._unrecorded[digest]
            await self.note(record)
        return record

    async def note(self, record: JobRecord) -> None:
        """Put a job on record."""
        try:
            await self._in_thread(lambda: self._store.jobs.put(record))
        except StoreUnavailable:
            self._unrecorded[record.digest] = record
        else:
            self._unrecorded.pop(record.digest, None)

    async def forget(self, digest: str) -> None:
        """Take a clip's job off the record: it has brought what it could."""
        await self._in_thread(lambda: self._store.jobs.delete(digest))
        self._unrecorded.pop(digest, None)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
