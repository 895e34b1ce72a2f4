"""The local endpoint as one thing: queue, both HTTP sides and workers, opened and closed together."""

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
from infra.local_runpod.environment import worker_environment
from infra.local_runpod.job_queue import RETENTION, JobQueue
from infra.local_runpod.worker_api import WorkerApi
from infra.local_runpod.workers import WorkerPool

SWEEP_SECONDS = 0.5  # between looks at what has run out of time

log = logging.getLogger(__name__)


def make_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class LocalEndpointOptions:
    """What to open. `environment` holds the variables that workers may see more of than the machine's own."""

    endpoint_id: str = "local"
    port: int = 0  # 0: any free one
    workers: int = 1
    api_key: str = field(default_factory=make_key, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    retention: float = RETENTION


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """An open endpoint. Clients need the first three.

    `worker_variables` are what lets another worker, under the id given, take jobs here.
    """

    base_url: str  # up to and with /v2
    endpoint_id: str
    api_key: str = field(repr=False)
    queue: JobQueue = field(repr=False)
    worker_variables: Callable[[str], dict[str, str]] = field(repr=False)


@asynccontextmanager
async def serve_endpoint(
    plan: LocalEndpointOptions,
    *,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[LocalEndpoint]:
    """Open a local endpoint, and close it with everything it started.

    `wrap` may put ASGI middleware around both HTTP sides, and `clock` may replace time, so that
    faults are made outside of what is under test. Raises `WorkersFailed` if a worker cannot start.
    """
    news = ChangeNotifier()
    queue = JobQueue(clock=clock, on_change=news.tell, retention=plan.retention)
    client_api = ClientApi(queue, news, endpoint_id=plan.endpoint_id, api_key=plan.api_key)
    worker_api = WorkerApi(queue, news, endpoint_id=plan.endpoint_id, token=make_key())
    app = wrap(Starlette(routes=[*client_api.routes(), *worker_api.routes()]))

    listening = _listen(plan.port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    machine = worker_environment({**os.environ, **plan.environment})

    def variables(worker_id: str) -> dict[str, str]:
        return worker_api.environment(url, worker_id)

    pool = WorkerPool(queue, lambda worker_id: machine | variables(worker_id), count=plan.workers)
    async with _serving(app, listening), _sweeping(queue):
        try:
            await pool.start()
            yield LocalEndpoint(f"{url}/v2", plan.endpoint_id, plan.api_key, queue, variables)
        finally:
            stopping = asyncio.create_task(pool.stop())
            await asyncio.sleep(0)  # workers are told first: one that merely finds no job would ask again
            news.close()
            await stopping


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    if os.name == "posix":  # elsewhere it would let two servers share the port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening


class _Server(uvicorn.Server):
    """uvicorn without its signal handling: whoever opened the endpoint decides when it closes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 -- uvicorn offers no event
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
        listening.close()


@asynccontextmanager
async def _sweeping(queue: JobQueue) -> AsyncIterator[None]:
    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            queue.sweep()

    task = asyncio.create_task(sweep())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
