"""Worker processes: started, replaced when they end, and all ended when the endpoint closes."""

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

GRACE = 5.0  # s between asking a worker to stop and killing it
FIRST_PAUSE = 0.5  # s before a worker is replaced; doubled each time one ended without asking for jobs
LONGEST_PAUSE = 30.0

WORKER = python("-m", "gpu_worker")

log = logging.getLogger(__name__)


class WorkersFailed(RuntimeError):
    """A worker ended before it asked for its first job; another one would end as well."""


class WorkerPool:
    """`count` workers, each with a supervisor. `environment_of(worker_id)` is a worker's environment."""

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
        self._supervisors: set[Process] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Start every worker, and return when each has asked for jobs; raises `WorkersFailed`."""
        first = [self._next_id() for _ in range(self._count)]
        self._tasks = [asyncio.create_task(self._keep_running(worker_id)) for worker_id in first]
        while not all(map(self._queue.worker_ready, first)):
            if self._started > self._count:
                raise WorkersFailed("a worker ended while starting; its output is above")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ask every worker to stop, and return when none of their processes is left."""
        self._stopping = True
        for supervisor in self._supervisors:
            assert supervisor.stdin is not None
            supervisor.stdin.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE + 2)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_running(self, worker_id: str) -> None:
        """Keep one worker running: the one with this id, and whenever it has ended, another."""
        pause = FIRST_PAUSE
        while not self._stopping:
            self._queue.worker_starting(worker_id)
            try:
                await self._run(worker_id)
            finally:
                was_ready = self._queue.worker_ready(worker_id)
                self._queue.worker_gone(worker_id)
            worker_id = self._next_id()
            if not self._stopping:
                pause = FIRST_PAUSE if was_ready else min(2 * pause, LONGEST_PAUSE)
                log.warning("a worker ended; %s replaces it in %.1f s", worker_id, pause)
                await asyncio.sleep(pause)

    async def _run(self, worker_id: str) -> None:
        supervisor = await asyncio.create_subprocess_exec(
            *python("-m", "infra.local_runpod.supervisor", str(GRACE), *self._command),
            env=self._environment_of(worker_id),
            stdin=PIPE,
            stdout=sys.stderr.fileno(),  # this process's standard output holds one line, its address
            stderr=sys.stderr.fileno(),
            start_new_session=True,
            creationflags=NEW_GROUP,
        )
        self._supervisors.add(supervisor)
        try:
            await supervisor.wait()
        finally:
            self._supervisors.discard(supervisor)
            _kill_group(supervisor.pid)

    def _next_id(self) -> str:
        self._started += 1
        return f"local-{self._started}"


def _kill_group(supervisor_pid: int) -> None:
    """Kill what a supervisor left if it was killed itself; on Windows its job object does this."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(supervisor_pid, signal.SIGKILL)
