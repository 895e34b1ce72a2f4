"""Opening the local endpoint and closing it: the queue, its two HTTP APIs and its workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from infra.local_runpod.change_notifier import ChangeNotifier
from infra.local_runpod.client_api import ClientApi
from infra.local_runpod.ended_jobs import RETENTION
from infra.local_runpod.environment import worker_environment
from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.worker_api import WorkerApi
from infra.local_runpod.workers import WorkerPool

TIME_LIMIT_CHECK_SECONDS = 0.5  # between two checks of every job's time limits

log = logging.getLogger(__name__)


def make_key() -> str:
    """A random key."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class LocalEndpointOptions:
    """Options of a local endpoint. `environment` adds to the variables of which workers get a part."""

    endpoint_id: str = "local"
    port: int = 0  # 0: any free port
    workers: int = 1
    api_key: str = field(default_factory=make_key, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    retention: float = RETENTION  # s


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """An open endpoint. Clients need `base_url`, `endpoint_id` and `api_key`.

    `worker_variables(worker_id)` are the environment variables by which another worker takes jobs here.
    """

    base_url: str  # ends in /v2
    endpoint_id: str
    api_key: str = field(repr=False)
    queue: JobQueue = field(repr=False)
    worker_variables: Callable[[str], dict[str, str]] = field(repr=False)


@asynccontextmanager
async def serve_endpoint(
    options: LocalEndpointOptions,
    *,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[LocalEndpoint]:
    """Open a local endpoint; on leaving, close it and end its workers.

    Tests make faults through `wrap`, which puts ASGI middleware around both APIs, and `clock`, by
    which the queue measures time. Raises `WorkersFailed` if a worker cannot start.
    """
    notifier = ChangeNotifier()
    queue = JobQueue(clock=clock, on_change=notifier.notify, retention=options.retention)
    client_api = ClientApi(queue, notifier, endpoint_id=options.endpoint_id, api_key=options.api_key)
    worker_api = WorkerApi(queue, notifier, endpoint_id=options.endpoint_id, token=make_key())
    app = wrap(Starlette(routes=[*client_api.routes(), *worker_api.routes()]))

    listener = _listen(options.port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    environment = worker_environment({**os.environ, **options.environment})

    def variables(worker_id: str) -> dict[str, str]:
        return worker_api.environment(url, worker_id)

    pool = WorkerPool(queue, lambda worker_id: environment | variables(worker_id), count=options.workers)
    async with _serving(app, listener), _applying_time_limits(queue):
        try:
            await pool.start()
            yield LocalEndpoint(f"{url}/v2", options.endpoint_id, options.api_key, queue, variables)
        finally:
            stopping = asyncio.create_task(pool.stop())
            await asyncio.sleep(0)  # stops the workers first: a worker whose poll just ends would poll again
            notifier.close()
            await stopping


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    if os.name == "posix":  # on Windows this option would let two servers share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `serve_endpoint` closes it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 -- uvicorn offers no event
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def _applying_time_limits(queue: JobQueue) -> AsyncIterator[None]:
    async def apply_repeatedly() -> None:
        while True:
            await asyncio.sleep(TIME_LIMIT_CHECK_SECONDS)
            queue.apply_time_limits()

    task = asyncio.create_task(apply_repeatedly())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
