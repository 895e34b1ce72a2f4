"""`python -m gpu_worker`: the worker's command line; without a command, RunPod's loop."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from gpu_worker.engines import model_id, open_speaker
from gpu_worker.models import ModelError
from gpu_worker.settings import read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 1 where the engine's checkpoint cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m gpu_worker", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="take jobs from RunPod until told to stop (the default)")
    commands.add_parser("model-id", help="print the id of the model that this worker speaks with")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "model-id":
            print(model_id(read_settings()))  # noqa: T201 -- a command's answer
        else:
            _serve()
    except ModelError as error:
        print(f"gpu_worker: {error}", file=sys.stderr)  # noqa: T201 -- a command's answer
        return 1
    return 0


def _serve() -> None:
    from gpu_worker.handler import serve  # noqa: PLC0415 -- the other commands need no audio libraries

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    settings = read_settings()
    serve(open_speaker(settings), settings)


if __name__ == "__main__":
    sys.exit(main())
