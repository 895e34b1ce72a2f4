"""The local endpoint in a thread of the test's process: watched, spoiled and held as a test needs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint

START_SECONDS = 60


class WatchedEndpoint:
    """RunPod's queue with a real worker that speaks drafts.

    `submitted` are the texts of all jobs in order, `most_in_flight` is the highest number of jobs
    that were neither finished nor cancelled at one moment. Requests whose text contains one of
    `spoiled` reach the worker with a temperature it refuses; the results of those that contain
    one of `held` do not arrive. `pause` seconds are added to each result that does.
    """

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self._cancelled: list[str] = []
        self.spoiled: set[str] = set()
        self.most_in_flight = 0
        self.held: set[str] = set()
        self.pause = 0.0
        self._app: ASGIApp
        self._endpoint: LocalEndpoint

    @property
    def variables(self) -> dict[str, str]:
        """What the pipeline's settings have to say to use this endpoint."""
        return {
            "NARRATION_RUNPOD_URL": self._endpoint.base_url,
            "RUNPOD_HIGGS_ENDPOINT_ID": self._endpoint.endpoint_id,
            "RUNPOD_API_KEY": self._endpoint.api_key,
        }

    def in_flight(self, part: str = "") -> int:
        """Jobs that are neither finished nor cancelled, and were asked for with `part` in their text."""
        jobs = [job for job in list(self._endpoint.queue._jobs.values()) if not job.status.terminal]
        return sum(part in job.input["prompt"] for job in jobs)

    def asked_for(self, part: str) -> int:
        """How many jobs were submitted with `part` in their text."""
        return sum(part in text for text in self.submitted)

    def cancelled(self, part: str) -> int:
        """How many jobs in flight were cancelled that were asked for with `part` in their text."""
        return sum(part in text for text in self._cancelled)

    def forget(self) -> None:
        """Begin to count and to behave afresh."""
        self.submitted.clear()
        self._cancelled.clear()
        self.spoiled.clear()
        self.held.clear()
        self.most_in_flight, self.pause = 0, 0.0

    @contextmanager
    def opened(self, *, slots: int) -> Iterator[None]:
        """Serve on loopback until the block ends."""
        plan = LocalEndpointOptions(environment={"WORKER_ENGINE": "draft", "WORKER_SLOTS": str(slots)})
        ready, stop = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()
        failures: list[BaseException] = []

        async def serve() -> None:
            async with serve_endpoint(plan, wrap=self._wrap) as endpoint:
                self._endpoint = endpoint
                ready.set()
                await stop.wait()

        def run() -> None:
            try:
                loop.run_until_complete(serve())
            except BaseException as error:  # noqa: BLE001  # told to the test below
                failures.append(error)
            finally:
                ready.set()
                loop.close()

        thread = threading.Thread(target=run, name="watched-endpoint")
        thread.start()
        try:
            assert ready.wait(START_SECONDS), "the endpoint did not start"
            if failures:
                raise failures[0]
            yield
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)
            thread.join()

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        self._app = app

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            await self._watch(scope, receive, send)

        return watched

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.endswith("/run"):
            body = await self._noted(await Request(scope, receive).body())
            await self._app(scope, _once(body, receive), send)
            self.most_in_flight = max(self.most_in_flight, self.in_flight())
            return
        if "/cancel/" in path:
            job = self._endpoint.queue._jobs.get(path.rpartition("/")[2])
            if job is not None and job.input is not None:  # one that has ended has none
                self._cancelled.append(job.input["prompt"])
        if "/job-done/" in path:
            await asyncio.sleep(self.pause)
            while self._is_held(path.rpartition("/")[2]):  # noqa: ASYNC110  # changed by another thread
                await asyncio.sleep(0.05)
        await self._app(scope, receive, send)

    def _is_held(self, job_id: str) -> bool:
        job = self._endpoint.queue._jobs.get(job_id)
        return job is not None and job.input is not None and _says(job.input["prompt"], self.held)

    async def _noted(self, body: bytes) -> bytes:
        document = json.loads(body)
        text = document["input"]["prompt"]
        self.submitted.append(text)
        if _says(text, self.spoiled):
            document["input"]["temperature"] = -1
        return json.dumps(document).encode()


def _says(text: str, parts: set[str]) -> bool:
    return any(part in text for part in list(parts))


def _once(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, to be read again."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
