"""Starts the local endpoint in a thread of the test process and records, refuses, holds or delays its jobs.

`deployments` starts one for the session, beside Prefect's server.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint
from infra.local_runpod.queued_job import UnknownJob

START_SECONDS = 60


class RecordingEndpoint:
    """RunPod's queue with a real worker that speaks the draft voice.

    `submitted` are the texts of all jobs in order, `most_in_flight` is the highest number of jobs
    in flight at one moment. A test may change:

    - `refused_texts`: the worker refuses jobs whose text contains one of these,
    - `held_texts`: results of such jobs do not arrive while the text is in here,
    - `result_delay`: seconds that each result takes longer to arrive.
    """

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.most_in_flight = 0
        self.refused_texts: set[str] = set()
        self.held_texts: set[str] = set()
        self.result_delay = 0.0
        self._cancelled: list[str] = []
        self._texts: dict[str, str] = {}  # by job id, of jobs that were in flight when last looked at
        self._app: ASGIApp
        self._endpoint: LocalEndpoint
        self._loop: asyncio.AbstractEventLoop

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which the pipeline uses this endpoint."""
        return {
            "NARRATION_RUNPOD_URL": self._endpoint.base_url,
            "RUNPOD_HIGGS_ENDPOINT_ID": self._endpoint.endpoint_id,
            "RUNPOD_API_KEY": self._endpoint.api_key,
        }

    def in_flight(self, part: str = "") -> int:
        """How many jobs with `part` in their text are neither finished nor cancelled; from another thread."""

        async def count() -> int:
            return sum(part in text for text in self._in_flight())

        return asyncio.run_coroutine_threadsafe(count(), self._loop).result(START_SECONDS)

    def count_submitted(self, part: str) -> int:
        """How many jobs were submitted with `part` in their text."""
        return sum(part in text for text in self.submitted)

    def count_cancelled(self, part: str) -> int:
        """How many jobs in flight with `part` in their text were cancelled."""
        return sum(part in text for text in self._cancelled)

    def reset(self) -> None:
        """Clear all records, and refuse, hold and delay nothing."""
        self.submitted.clear()
        self._cancelled.clear()
        self.refused_texts.clear()
        self.held_texts.clear()
        self.most_in_flight, self.result_delay = 0, 0.0

    @contextmanager
    def running(self, *, slots: int) -> Iterator[None]:
        """Serve on loopback until the block ends."""
        options = LocalEndpointOptions(environment={"WORKER_ENGINE": "draft", "WORKER_SLOTS": str(slots)})
        ready, stop = threading.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        failures: list[BaseException] = []

        async def serve() -> None:
            async with serve_endpoint(options, wrap=self._wrap) as endpoint:
                self._endpoint = endpoint
                ready.set()
                await stop.wait()

        def run() -> None:
            try:
                self._loop.run_until_complete(serve())
            except BaseException as error:  # noqa: BLE001  # raised in the test's thread, below
                failures.append(error)
            finally:
                ready.set()
                self._loop.close()

        thread = threading.Thread(target=run, name="recording-endpoint", daemon=True)
        thread.start()
        try:
            assert ready.wait(START_SECONDS), "the endpoint did not start"
            if failures:
                raise failures[0]
            yield
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(stop.set)
            thread.join()

    def _wrap(self, app: ASGIApp) -> ASGIApp:
        self._app = app

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            await self._handle(scope, receive, send)

        return handle

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        job_id = path.rpartition("/")[2]
        if path.endswith("/run"):
            await self._submit(scope, receive, send)
            return
        if "/cancel/" in path and self._is_in_flight(job_id):
            self._cancelled.append(self._texts[job_id])
        if "/job-done/" in path:
            await asyncio.sleep(self.result_delay)
            while self._is_held(job_id):  # noqa: ASYNC110  # changed by another thread
                await asyncio.sleep(0.05)
        await self._app(scope, receive, send)

    async def _submit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a job on to the queue; if its text is to be refused, with a temperature out of range."""
        document = json.loads(await Request(scope, receive).body())
        text = document["input"]["prompt"]
        self.submitted.append(text)
        if _contains_any(text, self.refused_texts):
            document["input"]["temperature"] = -1

        async def send_and_record(message: Message) -> None:
            if message.get("body"):
                self._record(json.loads(message["body"]), text)
            await send(message)

        await self._app(scope, _replay(json.dumps(document).encode(), receive), send_and_record)

    def _record(self, answer: dict[str, Any], text: str) -> None:
        """Keep the text of a job by its id, which the queue's answer holds unless it refused the job."""
        if "id" in answer:
            self._texts[answer["id"]] = text
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight()))

    def _in_flight(self) -> list[str]:
        """The texts of the jobs in flight; on the endpoint's event loop."""
        self._texts = {job_id: text for job_id, text in self._texts.items() if self._is_in_flight(job_id)}
        return list(self._texts.values())

    def _is_in_flight(self, job_id: str) -> bool:
        try:
            return job_id in self._texts and not self._endpoint.queue.get(job_id).status.terminal
        except UnknownJob:
            return False

    def _is_held(self, job_id: str) -> bool:
        return self._is_in_flight(job_id) and _contains_any(self._texts[job_id], self.held_texts)


def _contains_any(text: str, parts: set[str]) -> bool:
    return any(part in text for part in list(parts))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receives `body`, which was read already, and then what follows."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
