"""RunPod's job API with any number of workers, each of which takes a fixed time for a job.

    python benchmarks/fixed_worker.py SECONDS

Listens on loopback and prints its base URL as one line. Every job's clip is the same few seconds of
the draft voice, so that a benchmark times the pipeline alone.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
import uuid
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gpu_worker.draft.engine import DraftEngine
from narration.audio.files import encode_clip
from narration.contract import SAMPLE_RATE, SynthesisRequest

TEXT = "This is sentence number four hundred and twelve of a long script."


def main() -> None:
    """Serve until killed."""
    seconds = float(sys.argv[1])
    spoken = asyncio.run(DraftEngine().synthesize(SynthesisRequest(prompt=TEXT), None))
    audio = base64.b64encode(encode_clip(spoken.waveform, "flac")).decode()
    jobs: dict[str, tuple[float, dict[str, Any]]] = {}

    async def run(request: Request) -> JSONResponse:
        job_id = str(uuid.uuid4())
        jobs[job_id] = (time.monotonic(), (await request.json())["input"])
        return JSONResponse({"id": job_id, "status": "IN_QUEUE"})

    async def status(request: Request) -> JSONResponse:
        job_id = request.path_params["job"]
        if job_id not in jobs:
            return JSONResponse({"error": "job not found"}, status_code=404)
        began, job_input = jobs[job_id]
        if time.monotonic() - began < seconds:
            return JSONResponse({"id": job_id, "status": "IN_PROGRESS", "delayTime": 0})
        output = {
            "audio_base64": audio,
            "duration": spoken.waveform.size / SAMPLE_RATE,
            "sample_rate": SAMPLE_RATE,
            "finish_reason": "stop",
            "frames": spoken.frames,
            "seed": job_input["seed"],
            "model": job_input["model"],
        }
        answer = {"id": job_id, "status": "COMPLETED", "delayTime": 0, "executionTime": round(seconds * 1000)}
        return JSONResponse(answer | {"output": output})

    async def cancel(request: Request) -> JSONResponse:
        jobs.pop(request.path_params["job"], None)
        return JSONResponse({"id": request.path_params["job"], "status": "CANCELLED"})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"jobs": {}, "workers": {"idle": 1, "ready": 1}})

    routes = [
        Route("/v2/fixed/run", run, methods=["POST"]),
        Route("/v2/fixed/status/{job}", status),
        Route("/v2/fixed/cancel/{job}", cancel, methods=["POST"]),
        Route("/v2/fixed/health", health),
    ]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error")
    )

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}/v2", flush=True)
        await serving

    asyncio.run(serve())


if __name__ == "__main__":
    main()
