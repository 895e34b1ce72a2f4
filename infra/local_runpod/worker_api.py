"""RunPod's API for workers, which the SDK calls: take a job, post a result, ask what to stop, ping.

Field names and status codes are those the SDK acts on: 204 for no job yet, 400 for a result that is
too large, which the SDK then drops.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.local_runpod.change_notifier import ChangeNotifier
from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.json_bodies import (
    LenientJsonResponse,
    NotJson,
    TooLarge,
    error_response,
    read_json_object,
)
from infra.local_runpod.queued_job import UnknownJob

RESULT_BYTES = 10_000_000
POLL_SECONDS = 5.0  # for which a poll waits for a job; a worker that is asked to stop waits for its poll
MAX_BATCH = 128

_Handler = Callable[[Request], Awaitable[Response]]


class WorkerApi:
    """The routes for workers, each of which requires the workers' token.

    The token is in the query because the SDK sets the header itself: where a person has logged in
    to RunPod, it holds that person's key.
    """

    def __init__(self, queue: JobQueue, notifier: ChangeNotifier, *, endpoint_id: str, token: str) -> None:
        self._queue = queue
        self._notifier = notifier
        self._prefix = f"/v2/{endpoint_id}"
        self._token = token

    def environment(self, root_url: str, worker_id: str) -> dict[str, str]:
        """The variables by which the SDK in the worker `worker_id` takes its jobs from `root_url`."""
        base, query = f"{root_url}{self._prefix}", f"?token={self._token}"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
            "RUNPOD_PING_INTERVAL": "2000",  # ms
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_AI_API_KEY": self._token,  # without one the SDK does not ping
            "RUNPOD_LOG_LEVEL": "INFO",
            # These checks probe the internet and the GPU of a rented machine.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def routes(self) -> list[Route]:
        """The routes; each checks the token first."""
        handlers: list[tuple[str, str, _Handler]] = [
            ("GET", "job-take/{worker}", self._take),
            ("GET", "job-take-batch/{worker}", self._take_batch),
            ("POST", "job-done/{worker}/{job}", self._done),
            ("GET", "job-stop/{worker}", self._stop),
            ("GET", "ping/{worker}", self._ping),
        ]
        return [
            Route(f"{self._prefix}/{path}", self._checked(handler), methods=[method])
            for method, path, handler in handlers
        ]

    def _checked(self, handler: _Handler) -> _Handler:
        async def check_and_handle(request: Request) -> Response:
            token = request.query_params.get("token", "")
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                return error_response(401, "unauthorized")
            return await handler(request)

        return check_and_handle

    async def _take(self, request: Request) -> Response:
        worker = request.path_params["worker"]
        jobs = await self._notifier.wait_for(
            lambda: self._queue.take(worker, 1) or None, request, seconds=POLL_SECONDS
        )
        return LenientJsonResponse(jobs[0].dispatch_json()) if jobs else Response(status_code=204)

    async def _take_batch(self, request: Request) -> Response:
        worker = request.path_params["worker"]
        batch_size = request.query_params.get("batch_size", "1")
        limit = min(int(batch_size), MAX_BATCH) if batch_size.isdecimal() else 1
        jobs = await self._notifier.wait_for(
            lambda: self._queue.take(worker, limit) or None, request, seconds=POLL_SECONDS
        )
        return (
            LenientJsonResponse([job.dispatch_json() for job in jobs]) if jobs else Response(status_code=204)
        )

    async def _done(self, request: Request) -> Response:
        job = request.path_params["job"]
        response: Response = LenientJsonResponse({"status": "ok"})
        try:
            try:
                result, size = await read_json_object(request, RESULT_BYTES)
            except TooLarge as error:  # RunPod then shows a completed job without output
                result, size, response = {}, 0, error_response(400, str(error))
            if result.get("status") == "IN_PROGRESS":
                self._queue.progress(job, result.get("output"))
            else:
                self._queue.finish(job, output=result.get("output"), error=result.get("error"), size=size)
        except UnknownJob:
            return error_response(404, "job not found")
        except NotJson as error:
            return error_response(400, str(error))
        return response

    async def _stop(self, request: Request) -> Response:
        worker = request.path_params["worker"]
        job_ids = await self._notifier.wait_for(
            lambda: self._queue.take_stop_requests(worker) or None, request, seconds=POLL_SECONDS
        )
        return LenientJsonResponse({"jobsToStop": job_ids}) if job_ids else Response(status_code=204)

    async def _ping(self, request: Request) -> Response:
        job_ids = request.query_params.get("job_id", "").split(",")
        self._queue.ping(request.path_params["worker"], filter(None, job_ids))
        return Response(status_code=200)
