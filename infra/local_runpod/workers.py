"""Worker processes: started, watched, replaced when they die, and gone without a trace at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping

from infra.local_runpod.environment import NEW_GROUP, python
from infra.local_runpod.job_queue import JobQueue

GRACE = 5.0  # s between telling a worker to stop and killing it
FIRST_PAUSE = 0.5  # s before a dead worker is replaced; doubled for one that never got to work
LONGEST_PAUSE = 30.0

WORKER = python("-m", "gpu_worker")

log = logging.getLogger(__name__)


class WorkersFailed(RuntimeError):
    """A worker ended before it asked for its first job: the next one would too."""


class WorkerPool:
    """`count` workers under a keeper each. `environment_of` gives a worker id its environment."""

    def __init__(
        self,
        queue: JobQueue,
        environment_of: Callable[[str], Mapping[str, str]],
        *,
        count: int,
        command: list[str] = WORKER,
    ) -> None:
        self._queue = queue
        self._environment_of = environment_of
        self._count = count
        self._command = command
        self._started = 0
        self._keepers: set[Process] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start every worker, and return when each has asked for jobs; raises `WorkersFailed`."""
        first = [self._next_id() for _ in range(self._count)]
        self._tasks = [asyncio.create_task(self._keep_one(worker_id)) for worker_id in first]
        while not all(map(self._queue.worker_ready, first)):
            if self._started > self._count:
                raise WorkersFailed("a worker ended while starting; its last words are above")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Tell every worker to stop, and return when nothing of them is left."""
        self._stopping = True
        for keeper in self._keepers:
            assert keeper.stdin is not None
            keeper.stdin.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE + 2)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_one(self, worker_id: str) -> None:
        """Keep one place filled, by the worker of this id first and by others after it."""
        pause = FIRST_PAUSE
        while not self._stopping:
            self._queue.worker_starting(worker_id)
            try:
                await self._run(worker_id)
            finally:
                worked = self._queue.worker_ready(worker_id)
                self._queue.worker_gone(worker_id)
            worker_id = self._next_id()
            if not self._stopping:
                pause = FIRST_PAUSE if worked else min(2 * pause, LONGEST_PAUSE)
                log.warning("a worker ended; %s takes its place in %.1f s", worker_id, pause)
                await asyncio.sleep(pause)

    async def _run(self, worker_id: str) -> None:
        keeper = await asyncio.create_subprocess_exec(
            *python("-m", "infra.local_runpod.supervisor", str(GRACE), *self._command),
            env=self._environment_of(worker_id),
            stdin=PIPE,
            stdout=sys.stderr.fileno(),  # our own output is for the line that says where we are
            stderr=sys.stderr.fileno(),
            start_new_session=True,
            creationflags=NEW_GROUP,
        )
        self._keepers.add(keeper)
        try:
            await keeper.wait()
        finally:
            self._keepers.discard(keeper)
            _end_group(keeper.pid)

    def _next_id(self) -> str:
        self._started += 1
        return f"local-{self._started}"


def _end_group(keeper_pid: int) -> None:
    """End what a keeper left, should it have been killed itself; on Windows its job object does."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(keeper_pid, signal.SIGKILL)
