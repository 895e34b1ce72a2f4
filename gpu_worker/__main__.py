"""Command line of the worker: `python -m gpu_worker [COMMAND]`; without a command it serves RunPod."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_worker import pin_checkpoints
from gpu_worker.checkpoints import fetch
from gpu_worker.checkpoints.source import ModelError
from gpu_worker.open_engine import model_id
from gpu_worker.settings import read_settings
from gpu_worker.start_times import START_TIMES
from narration.contract import ContractError

# A command imports what only it needs: torch takes seconds.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 1 with the reason on stderr."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ModelError, ContractError, OSError) as error:
        return _print_error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpu_worker", description=__doc__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help="take jobs from RunPod until SIGTERM (the default)")

    check = commands.add_parser("check", help="self-test: load the engine and synthesize one word")
    check.set_defaults(run=_check)

    synthesize = commands.add_parser("synthesize", help="synthesize prompts into files, without RunPod")
    _add_synthesize_flags(synthesize)
    synthesize.set_defaults(run=_synthesize)

    identify = commands.add_parser("model-id", help="print the model id that requests to this worker carry")
    identify.set_defaults(run=_model_id)

    fetch_command = commands.add_parser("fetch", help="fetch the checkpoints into a folder")
    fetch.add_arguments(fetch_command)
    fetch_command.set_defaults(run=fetch.run)

    pin_command = commands.add_parser("pin", help="write the checkpoints' newest revisions to models.toml")
    pin_checkpoints.add_arguments(pin_command)
    pin_command.set_defaults(run=pin_checkpoints.run)
    return parser


def _add_synthesize_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="SOURCE", help="folder or owner/name@revision (default: WORKER_MODEL)")
    add("--codec", metavar="SOURCE", help="folder or owner/name@revision (default: WORKER_CODEC)")
    add(
        "--prompt", action="append", required=True, metavar="TEXT", help="text to synthesize; may be repeated"
    )
    add("--voice-sample", type=Path, metavar="WAV", help="recording of the voice to clone, 1 to 30 s")
    add("--voice-transcript", metavar="TEXT", help="what the voice sample says")
    add("--greedy", action="store_true", help="temperature 0 and no repetition-aware sampling")
    add("--seed", type=int, metavar="N", help="seed of every prompt (default: a random one for each)")
    add("--max-new-tokens", type=int, metavar="N", help="most frames of a clip, 25 a second (default: 1024)")
    add("--slots", type=int, metavar="N", help="prompts synthesized at once (default: WORKER_SLOTS)")
    add("--device", choices=["cpu", "cuda"], help="default: WORKER_DEVICE, or cuda if there is a CUDA device")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for 001.wav, 001.json, 002.wav and so on",
    )


def _serve(_options: argparse.Namespace) -> int:
    from gpu_worker.handler import serve  # noqa: PLC0415 -- see the comment above main
    from gpu_worker.open_engine import open_engine  # noqa: PLC0415 -- see the comment above main

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    settings = read_settings()
    serve(open_engine(settings), settings)
    return 0


def _check(_options: argparse.Namespace) -> int:
    from gpu_worker import check  # noqa: PLC0415 -- see the comment above main

    try:
        print(check.run(read_settings()))  # noqa: T201 -- the command's output
    except Exception as error:  # noqa: BLE001 -- any exception means that the self-test failed
        return _print_error(f"{type(error).__name__}: {error}")
    if START_TIMES.seconds:
        print(f"started in {START_TIMES.describe()}")  # noqa: T201 -- as above
    return 0


def _synthesize(options: argparse.Namespace) -> int:
    from gpu_worker import synthesize  # noqa: PLC0415 -- see the comment above main

    failures = synthesize.run(options, read_settings())
    for failure in failures:
        _print_error(failure)
    return 1 if failures else 0


def _model_id(_options: argparse.Namespace) -> int:
    print(model_id(read_settings()))  # noqa: T201 -- the command's output
    return 0


def _print_error(reason: str) -> int:
    print(f"gpu_worker: {reason}", file=sys.stderr)  # noqa: T201 -- the command's output
    return 1


if __name__ == "__main__":
    sys.exit(main())
