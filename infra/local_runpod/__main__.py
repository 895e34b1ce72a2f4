"""`python -m infra.local_runpod`: the local endpoint alone, for deployments on a laptop and for the pipeline.

Prints one line of JSON when its workers are up, and stops on SIGINT, on SIGTERM and, where
asked to, when its standard input ends, as it does when the parent stops or dies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading

from infra.local_runpod.endpoint import LocalEndpointOptions, make_key, serve_endpoint
from infra.local_runpod.environment import API_KEY_VARIABLE
from infra.local_runpod.workers import WorkersFailed


def main() -> int:
    """Run until told to stop. The exit status is 1 when the workers could not be started."""
    asked = _arguments()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_run(asked))
    except (WorkersFailed, OSError) as error:
        print(f"the local endpoint did not start: {error}", file=sys.stderr)  # noqa: T201 -- a command's answer
        return 1
    return 0


async def _run(asked: argparse.Namespace) -> None:
    _cancel_when_told(at_end_of_input=asked.stop_with_parent)
    given_key = os.environ.get(API_KEY_VARIABLE)
    environment = {"WORKER_ENGINE": asked.engine}
    if asked.slots is not None:
        environment["WORKER_SLOTS"] = str(asked.slots)
    plan = LocalEndpointOptions(
        endpoint_id=asked.endpoint_id,
        port=asked.port,
        workers=asked.workers,
        api_key=given_key or make_key(),
        environment=environment,
    )
    async with serve_endpoint(plan) as endpoint:
        ready = {"base_url": endpoint.base_url, "endpoint_id": endpoint.endpoint_id, "pid": os.getpid()}
        made_key = {} if given_key else {"api_key": endpoint.api_key}
        print(json.dumps(ready | made_key), flush=True)  # noqa: T201 -- the one line that the caller reads
        await asyncio.Event().wait()


def _cancel_when_told(*, at_end_of_input: bool) -> None:
    """Cancel the current task once, by whichever signal comes first."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told = threading.Event()

    def cancel(*_signal: object) -> None:
        if not told.is_set():
            told.set()
            loop.call_soon_threadsafe(task.cancel)

    def watch_input() -> None:
        while os.read(0, 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            cancel()

    signal.signal(signal.SIGINT, cancel)
    signal.signal(signal.SIGTERM, cancel)
    if at_end_of_input:
        threading.Thread(target=watch_input, daemon=True).start()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local_runpod",
        description="RunPod's queue on this machine, with real worker loops behind it.",
        epilog=f"The API key is taken from {API_KEY_VARIABLE}; without it one is made and printed.",
    )
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0, the default, is any free one")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")
    parser.add_argument("--slots", type=int, help="jobs a worker speaks at once (default: the engine's own)")
    parser.add_argument("--engine", choices=["draft", "higgs"], default="draft", help="default: draft")
    parser.add_argument("--endpoint-id", default="local", help="default: local")
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when standard input ends")
    asked = parser.parse_args()
    if asked.workers < 1 or (asked.slots is not None and asked.slots < 1):
        parser.error("--workers and --slots count from 1")
    return asked


if __name__ == "__main__":
    sys.exit(main())
