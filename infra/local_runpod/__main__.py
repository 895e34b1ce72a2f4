"""`python -m infra.local_runpod`: the local endpoint as a command, for deployments on a laptop.

Prints one line of JSON when its workers take jobs. Stops on SIGINT, on SIGTERM and, with
--stop-with-parent, when its standard input ends, as it does when the parent process ends.
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
    """Run until stopped. The exit status is 1 if the workers could not be started."""
    arguments = _parse_arguments()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_run(arguments))
    except (WorkersFailed, OSError) as error:
        print(f"the local endpoint did not start: {error}", file=sys.stderr)  # noqa: T201 -- a command's answer
        return 1
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    _cancel_on_signal(or_end_of_input=arguments.stop_with_parent)
    key_from_environment = os.environ.get(API_KEY_VARIABLE)
    environment = {"WORKER_ENGINE": arguments.engine}
    if arguments.slots is not None:
        environment["WORKER_SLOTS"] = str(arguments.slots)
    options = LocalEndpointOptions(
        endpoint_id=arguments.endpoint_id,
        port=arguments.port,
        workers=arguments.workers,
        api_key=key_from_environment or make_key(),
        environment=environment,
    )
    async with serve_endpoint(options) as endpoint:
        ready = {"base_url": endpoint.base_url, "endpoint_id": endpoint.endpoint_id, "pid": os.getpid()}
        new_key = {} if key_from_environment else {"api_key": endpoint.api_key}
        print(json.dumps(ready | new_key), flush=True)  # noqa: T201 -- the line that the caller reads
        await asyncio.Event().wait()


def _cancel_on_signal(*, or_end_of_input: bool) -> None:
    """Cancel the current task at the first SIGINT or SIGTERM, or at the end of standard input."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    cancelled = threading.Event()

    def cancel(*_signal: object) -> None:
        if not cancelled.is_set():
            cancelled.set()
            loop.call_soon_threadsafe(task.cancel)

    def wait_for_end_of_input() -> None:
        while os.read(0, 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the event loop has ended already
            cancel()

    signal.signal(signal.SIGINT, cancel)
    signal.signal(signal.SIGTERM, cancel)
    if or_end_of_input:
        threading.Thread(target=wait_for_end_of_input, daemon=True).start()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local_runpod",
        description="RunPod's queue on this machine, with real workers.",
        epilog=f"The API key is taken from {API_KEY_VARIABLE}; without it a random key is used and printed.",
    )
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0, the default, is any free port")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default 1)")
    parser.add_argument("--slots", type=int, help="jobs a worker speaks at once (default: the engine's own)")
    parser.add_argument(
        "--engine", choices=["draft", "higgs", "openai"], default="draft", help="default: draft"
    )
    parser.add_argument("--endpoint-id", default="local", help="default: local")
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    if arguments.workers < 1 or (arguments.slots is not None and arguments.slots < 1):
        parser.error("--workers and --slots count from 1")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
