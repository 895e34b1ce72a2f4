"""Starts what fault tests talk to: a local endpoint with its worker, an S3 server, a proxy before each.

The fixture `services` and `benchmarks/chaos.py` start one for all their narrations.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]  # ships no types
from support.http_proxy import HttpProxy
from support.stores import STRICT, server

from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint
from infra.local_runpod.environment import worker_environment
from infra.local_runpod.workers import WorkerPool

T = TypeVar("T")

API_KEY = "the-key-of-the-local-endpoint"
IDLE_SECONDS = 40.0


class Services:
    """The services of a narration, on an event loop in a thread of its own.

    `endpoint_proxy` stands between pipeline and endpoint, `worker_proxy` between worker and
    endpoint, `store_proxy` between pipeline and S3 server (at `store_url` without proxy).
    `clock_offset` seconds are added to the endpoint's clock.
    """

    def __init__(self, *, slots: int = 4) -> None:
        self._slots = slots
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self.clock_offset = 0.0
        self.endpoint: LocalEndpoint
        self.endpoint_proxy: HttpProxy
        self.worker_proxy: HttpProxy
        self.store_proxy: HttpProxy
        self.store_url = server(STRICT)

    def start(self) -> None:
        """Start everything; returns when the worker takes jobs."""
        self._thread.start()
        self.run(self._start())

    def stop(self) -> None:
        """Stop everything but the S3 server, which ends with the test session."""
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the services' event loop, from any other thread; what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def reset(self) -> None:
        """Remove all faults and counts, and wait until a worker is ready and no job runs."""
        self.run(self._reset())

    def wait_until_idle(self) -> None:
        """Wait until a worker is ready and no job waits or runs."""
        self.run(self._wait_until_idle())

    def worker_process(self) -> psutil.Process:
        """The process of the RunPod SDK's worker loop."""
        for supervisor in psutil.Process().children():
            if "infra.local_runpod.supervisor" in " ".join(supervisor.cmdline()):
                for child in supervisor.children():
                    if "gpu_worker" in child.cmdline():
                        return child
        raise AssertionError("no worker runs")

    @property
    def accepted_jobs(self) -> int:
        """Jobs that the endpoint accepted since the last `reset`: those that are paid."""
        return self.endpoint_proxy.count_answered("POST", r"/run$")

    @property
    def unfinished_jobs(self) -> int:
        """Jobs that wait or run now."""
        jobs = self.endpoint.queue.health()["jobs"]
        return jobs["inQueue"] + jobs["inProgress"]

    def unused_rules(self) -> list[str]:
        """The faults arranged since the last `reset` that met no request."""
        return [rule for proxy in self._proxies() for rule in proxy.unused_rules()]

    def _proxies(self) -> tuple[HttpProxy, ...]:
        return self.endpoint_proxy, self.worker_proxy, self.store_proxy

    async def _start(self) -> None:
        def clock() -> float:
            return time.monotonic() + self.clock_offset

        options = LocalEndpointOptions(workers=0, api_key=API_KEY)
        self.endpoint = await self._stack.enter_async_context(serve_endpoint(options, clock=clock))
        root = self.endpoint.base_url.removesuffix("/v2")
        self.endpoint_proxy, self.worker_proxy = HttpProxy(root), HttpProxy(root)
        self.store_proxy = HttpProxy(self.store_url)
        for proxy in self._proxies():
            await proxy.open()
            self._stack.push_async_callback(proxy.close)
        shared = worker_environment(os.environ | {"WORKER_ENGINE": "draft", "WORKER_SLOTS": str(self._slots)})

        def environment(worker_id: str) -> dict[str, str]:
            own = self.endpoint.worker_variables(worker_id)
            return shared | {name: value.replace(root, self.worker_proxy.url) for name, value in own.items()}

        pool = WorkerPool(self.endpoint.queue, environment, count=1)
        self._stack.push_async_callback(pool.stop)
        await pool.start()

    async def _reset(self) -> None:
        for proxy in self._proxies():
            if not proxy.is_open:
                await proxy.open()
            proxy.clear()
        await self._wait_until_idle()

    async def _wait_until_idle(self) -> None:
        async with asyncio.timeout(IDLE_SECONDS):
            while True:
                health = self.endpoint.queue.health()
                ready = sum(health["workers"][state] for state in ("idle", "running", "ready"))
                if ready and not self.unfinished_jobs:
                    return
                await asyncio.sleep(0.05)
