"""The side of the queue that RunPod's SDK talks to from inside a worker.

Wording and status codes are those the SDK acts on: 204 for nothing yet, 400 for a result
that is too large, which the SDK then drops.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.local_runpod.change_notifier import ChangeNotifier
from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.jobs import UnknownJob
from infra.local_runpod.json_bodies import LenientJsonResponse, NotJson, TooLarge, json_object, refusal

RESULT_BYTES = 10_000_000
POLL_SECONDS = 5.0  # that an empty poll is held; a worker told to stop waits for its end
MAX_BATCH = 128

_Endpoint = Callable[[Request], Awaitable[Response]]


class WorkerApi:
    """The routes that workers use, behind their token.

    The token is in the query because the SDK's own header is not ours to set: where a person
    has logged in to RunPod, it carries that person's key.
    """

    def __init__(self, queue: JobQueue, news: ChangeNotifier, *, endpoint_id: str, token: str) -> None:
        self._queue = queue
        self._news = news
        self._prefix = f"/v2/{endpoint_id}"
        self._token = token

    def environment(self, root_url: str, worker_id: str) -> dict[str, str]:
        """What makes the SDK's loop, in a worker of that id, take its jobs at `root_url`."""
        base, query = f"{root_url}{self._prefix}", f"?token={self._token}"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
            "RUNPOD_PING_INTERVAL": "2000",  # ms
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_AI_API_KEY": self._token,  # without one the SDK does not ping
            "RUNPOD_LOG_LEVEL": "INFO",
            # They probe the internet and the GPU, as a rented machine should be.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def routes(self) -> list[Route]:
        """Every route, each checking the token first."""
        offered: list[tuple[str, str, _Endpoint]] = [
            ("GET", "job-take/{worker}", self._take),
            ("GET", "job-take-batch/{worker}", self._take_batch),
            ("POST", "job-done/{worker}/{job}", self._done),
            ("GET", "job-stop/{worker}", self._stop),
            ("GET", "ping/{worker}", self._ping),
        ]
        return [
            Route(f"{self._prefix}/{path}", self._guarded(endpoint), methods=[method])
            for method, path, endpoint in offered
        ]

    def _guarded(self, endpoint: _Endpoint) -> _Endpoint:
        async def guarded(request: Request) -> Response:
            given = request.query_params.get("token", "")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return refusal(401, "unauthorized")
            return await endpoint(request)

        return guarded

    async def _take(self, request: Request) -> Response:
        worker = request.path_params["worker"]
        jobs = await self._news.until(
            lambda: self._queue.take(worker, 1) or None, request, seconds=POLL_SECONDS
        )
        return LenientJsonResponse(jobs[0].as_taken()) if jobs else Response(status_code=204)

    async def _take_batch(self, request: Request) -> Response:
        worker = request.path_params["worker"]
        asked = request.query_params.get("batch_size", "1")
        limit = min(int(asked), MAX_BATCH) if asked.isdecimal() else 1
        jobs = await self._news.until(
            lambda: self._queue.take(worker, limit) or None, request, seconds=POLL_SECONDS
        )
        return LenientJsonResponse([job.as_taken() for job in jobs]) if jobs else Response(status_code=204)

    async def _done(self, request: Request) -> Response:
        job = request.path_params["job"]
        answer: Response = LenientJsonResponse({"status": "ok"})
        try:
            try:
                result, size = await json_object(request, RESULT_BYTES)
            except TooLarge as error:  # what RunPod then shows is a completed job without output
                result, size, answer = {}, 0, refusal(400, str(error))
            if result.get("status") == "IN_PROGRESS":
                self._queue.progress(job, result.get("output"))
            else:
                self._queue.finish(job, output=result.get("output"), error=result.get("error"), size=size)
        except UnknownJob:
            return refusal(404, "job not found")
        except NotJson as error:
            return refusal(400, str(error))
        return answer

    async def _stop(self, request: Request) -> Response:
        worker = request.path_params["worker"]
        stops = await self._news.until(
            lambda: self._queue.stops(worker) or None, request, seconds=POLL_SECONDS
        )
        return LenientJsonResponse({"jobsToStop": stops}) if stops else Response(status_code=204)

    async def _ping(self, request: Request) -> Response:
        jobs = request.query_params.get("job_id", "")
        self._queue.ping(request.path_params["worker"], [job for job in jobs.split(",") if job])
        return Response(status_code=200)
