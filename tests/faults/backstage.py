"""What a narration talks to, with a proxy before each: endpoint, worker loop and S3 server, all real."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]  # ships no types
from support.proxy import Proxy
from support.stores import STRICT, server

from infra.local_runpod.endpoint import LocalEndpoint, serve_endpoint
from infra.local_runpod.endpoint import LocalEndpointOptions as EndpointPlan
from infra.local_runpod.environment import worker_environment
from infra.local_runpod.workers import WorkerPool

T = TypeVar("T")

KEY = "the-key-of-the-local-endpoint"
RUN = ("POST", r"/run$")


class Backstage:
    """Everything a narration talks to, on an event loop and a thread of its own.

    `client` stands between pipeline and endpoint, `worker` between worker and endpoint, `s3`
    before the store's server. `ahead` seconds are added to the endpoint's clock.
    """

    def __init__(self, *, slots: int = 4) -> None:
        self._slots = slots
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self.ahead = 0.0
        self.endpoint: LocalEndpoint
        self.client: Proxy
        self.worker: Proxy
        self.s3: Proxy
        self.upstream = server(STRICT)

    def open(self) -> None:
        """Start everything; returns when the worker takes jobs."""
        self._thread.start()
        self.call(self._open())

    def close(self) -> None:
        """Stop everything."""
        self.call(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on this loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def settle(self, seconds: float = 40) -> None:
        """Lift every fault: what vanished is back, what was killed is replaced, what runs has ended."""
        self.call(self._settle(seconds))

    def wait_until_idle(self) -> None:
        """Let every job end that was submitted so far."""
        self.call(self._idle(40))

    def worker_process(self) -> psutil.Process:
        """The process that runs the SDK's loop."""
        for keeper in psutil.Process().children():
            if "infra.local_runpod.supervisor" in " ".join(keeper.cmdline()):
                for child in keeper.children():
                    if "gpu_worker" in child.cmdline():
                        return child
        raise AssertionError("no worker runs")

    def end_worker(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill the worker, or tell it to stop."""
        self.worker_process().send_signal(number)

    @property
    def jobs(self) -> int:
        """Jobs that the endpoint accepted since the last `settle`: what is paid."""
        return self.client.answered(*RUN)

    @property
    def unfinished(self) -> int:
        """Jobs that wait or are spoken at this moment."""
        jobs = self.endpoint.queue.health()["jobs"]
        return jobs["inQueue"] + jobs["inProgress"]

    def unmet(self) -> list[str]:
        """The troubles arranged since the last `settle` that met no request."""
        return [rule for proxy in (self.client, self.worker, self.s3) for rule in proxy.unmet()]

    async def _open(self) -> None:
        def clock() -> float:
            return time.monotonic() + self.ahead

        plan = EndpointPlan(workers=0, api_key=KEY)
        self.endpoint = await self._stack.enter_async_context(serve_endpoint(plan, clock=clock))
        root = self.endpoint.base_url.removesuffix("/v2")
        self.client, self.worker, self.s3 = Proxy(root), Proxy(root), Proxy(self.upstream)
        for proxy in (self.client, self.worker, self.s3):
            await proxy.appear()
            self._stack.push_async_callback(proxy.vanish)
        machine = worker_environment(
            os.environ | {"WORKER_ENGINE": "draft", "WORKER_SLOTS": str(self._slots)}
        )

        def environment(worker_id: str) -> dict[str, str]:
            theirs = self.endpoint.worker_variables(worker_id)
            return machine | {name: value.replace(root, self.worker.url) for name, value in theirs.items()}

        pool = WorkerPool(self.endpoint.queue, environment, count=1)
        self._stack.push_async_callback(pool.stop)
        await pool.start()

    async def _settle(self, seconds: float) -> None:
        for proxy in (self.client, self.worker, self.s3):
            if not proxy.listening:
                await proxy.appear()
            proxy.reset()
        await self._idle(seconds)

    async def _idle(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while True:
                health = self.endpoint.queue.health()
                able = health["workers"]["idle"] + health["workers"]["running"] + health["workers"]["ready"]
                if able and not health["jobs"]["inProgress"] and not health["jobs"]["inQueue"]:
                    return
                await asyncio.sleep(0.05)
