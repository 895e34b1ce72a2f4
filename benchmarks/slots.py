"""How full a worker's slots are under RunPod's worker loop, by the number of jobs it takes for each slot.

    python benchmarks/slots.py [--slots 32] [--decode 4] [--seconds 40] [--jobs-per-slot 1 1.25 1.5 2]
                               [--in-flight N]

Everything between client and engine is real: the local endpoint's queue and HTTP APIs, the SDK's worker
loop in a process of its own, the handler. The engine holds a slot for a set time (30 % more or less), then
0.3 s for the codec; requests for jobs are answered 0.1 s late and results 0.3 s late, as over the internet.
The queue never runs empty, or with --in-flight the pipeline's own client keeps N jobs in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from starlette.types import ASGIApp, Receive, Scope, Send
from support.fixed_time_engine import MODEL, WORKER, busy_share, read_uses

from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint
from infra.local_runpod.environment import worker_environment
from infra.local_runpod.queued_job import TimeLimits
from infra.local_runpod.workers import WorkerPool
from narration.contract import SynthesisRequest
from narration.endpoint import Endpoint, JobPolicy

TAKE_SECONDS = 0.1  # added to a request for jobs
POST_SECONDS = 0.3  # added to the posting of a result


def main() -> None:
    """Measure each number of jobs per slot and print a line for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--decode", type=float, default=4.0, help="seconds in a slot")
    parser.add_argument("--seconds", type=float, default=40.0, help="measured, after two decode times")
    parser.add_argument("--jobs-per-slot", type=float, nargs="+", default=[1.0, 1.25, 1.5, 2.0])
    parser.add_argument("--in-flight", type=int, help="jobs that the pipeline's client keeps in flight")
    options = parser.parse_args()
    client = f"{options.in_flight} in flight" if options.in_flight else "queue never empty"
    print(f"{options.slots} slots, {options.decode:g} s in a slot, {client}")
    print("jobs per slot   slots busy   longest wait for a slot")
    for jobs_per_slot in options.jobs_per_slot:
        busy, wait = asyncio.run(measure(options, jobs_per_slot))
        print(f"{jobs_per_slot:13g} {busy:11.1%} {wait:22.1f} s", flush=True)


async def measure(options: argparse.Namespace, jobs_per_slot: float) -> tuple[float, float]:
    """The part of the slots' time that was used, and the longest wait in the worker, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "uses.jsonl")
        variables = {
            "FIXED_SLOTS": str(options.slots),
            "FIXED_DECODE_SECONDS": str(options.decode),
            "FIXED_RECORD": str(record),
            "WORKER_JOBS_PER_SLOT": str(jobs_per_slot),
        }
        async with (
            serve_endpoint(LocalEndpointOptions(workers=0), wrap=over_the_internet) as endpoint,
            one_worker(endpoint, variables),
        ):
            work = keep_in_flight(endpoint, options.in_flight) if options.in_flight else keep_full(endpoint)
            feeding = asyncio.create_task(work)
            now = asyncio.get_running_loop().time
            await asyncio.sleep(2 * options.decode + 2)
            since = now()
            await asyncio.sleep(options.seconds)
            until = now()
            await asyncio.sleep(2 * options.decode)  # what is in a slot now is recorded when it leaves it
            feeding.cancel()
            with suppress(asyncio.CancelledError):
                await feeding
            uses = read_uses(record)
    measured = [use for use in uses if since <= use.began < until]
    wait = max(use.began - use.submitted for use in measured)
    return busy_share(uses, options.slots, since, until), wait


@asynccontextmanager
async def one_worker(endpoint: LocalEndpoint, variables: dict[str, str]) -> AsyncIterator[None]:
    """A worker with the fixed-time engine while the block runs."""
    environment = worker_environment(os.environ | variables) | variables
    pool = WorkerPool(
        endpoint.queue,
        lambda worker_id: environment | endpoint.worker_variables(worker_id) | {"RUNPOD_LOG_LEVEL": "ERROR"},
        count=1,
        command=WORKER,
    )
    try:
        await pool.start()
        yield
    finally:
        await pool.stop()


async def keep_full(endpoint: LocalEndpoint) -> None:
    """Submit jobs so that some are always queued."""
    numbers = count()
    while True:
        while endpoint.queue.health()["jobs"]["inQueue"] < 200:
            number = next(numbers)
            endpoint.queue.submit({"prompt": f"{number}", "seed": number}, size=100, limits=TimeLimits())
        await asyncio.sleep(0.05)


async def keep_in_flight(endpoint: LocalEndpoint, jobs: int) -> None:
    """Submit a job for each that the pipeline's client knows to have ended, `jobs` in flight."""
    numbers = count()
    async with Endpoint(endpoint.endpoint_id, endpoint.api_key, base_url=endpoint.base_url) as client:

        async def consume(numbers: Iterator[int]) -> None:
            for number in numbers:
                request = SynthesisRequest(prompt=f"{number}", seed=number, model=MODEL)
                job_id = await client.run(request, JobPolicy())
                await client.result(job_id, deadline_seconds=600)

        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(consume(numbers))


def over_the_internet(app: ASGIApp) -> ASGIApp:
    """Middleware that delays the worker's requests as a network does."""

    async def delayed(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if "/job-take" in path:
            await asyncio.sleep(TAKE_SECONDS)
        elif "/job-done/" in path:
            await asyncio.sleep(POST_SECONDS)
        await app(scope, receive, send)

    return delayed


if __name__ == "__main__":
    main()
