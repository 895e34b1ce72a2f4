"""The words that the command `narrate` takes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of one command; `command` is its name, such as `run` or `voice add`."""
    return _parser().parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="narrate", description="Narration scripts to finished narrations in a cloned voice."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="narrate a script: synthesize what is missing, master, publish")
    _script_arguments(run)
    _cost_argument(run)
    run.set_defaults(command="run")

    plan = commands.add_parser("plan", help="show what a run would synthesize and cost")
    _script_arguments(plan)
    plan.set_defaults(command="plan")

    retake = commands.add_parser("retake", help="speak some chunks of a narration again")
    retake.add_argument("id", help="the narration's id")
    retake.add_argument("chunks", type=_number, nargs="+", metavar="CHUNK", help="chunk numbers, from 1")
    retake.add_argument("--seed", type=_seed, help="seed of the new takes; default: derived from the take")
    retake.add_argument(
        "--text", action="append", default=[], metavar="CHUNK=TEXT", help="other words for a chunk"
    )
    retake.add_argument("--take", type=_number, metavar="N", help="go back to take N instead of making one")
    _cost_argument(retake)
    _common_arguments(retake)
    retake.set_defaults(command="retake")

    review = commands.add_parser("review", help="make the review page again, with new links")
    review.add_argument("id", help="the narration's id")
    _store_argument(review)
    review.set_defaults(command="review")

    voice = commands.add_parser("voice", help="add, list and check voices").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add = voice.add_parser("add", help="import a voice into the store")
    add.add_argument("name")
    add.add_argument("--sample", required=True, metavar="FILE_OR_URL", help="1 to 30 s of clean speech")
    add.add_argument(
        "--transcript", required=True, metavar="FILE_OR_TEXT", help="exactly what the sample says"
    )
    add.add_argument("--replace", action="store_true", help="replace a voice of that name")
    _store_argument(add)
    add.set_defaults(command="voice add")
    listing = voice.add_parser("list", help="list the store's voices")
    _store_argument(listing)
    listing.set_defaults(command="voice list")
    check = voice.add_parser("check", help="check a voice's sample again")
    check.add_argument("name")
    _store_argument(check)
    check.set_defaults(command="voice check")

    doctor = commands.add_parser("doctor", help="check store, ffmpeg, endpoint and voice")
    _common_arguments(doctor)
    doctor.add_argument("--voice", metavar="NAME")
    doctor.set_defaults(command="doctor")
    return parser


def _store_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help="a folder or s3://bucket/prefix")


def _cost_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-cost", type=_usd, metavar="USD", help="refuse to start, or go on, beyond this")


def _common_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    parser.add_argument(
        "--engine", choices=["draft", "higgs"], help="default: higgs with an endpoint, else draft"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, and nothing else"
    )


def _script_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", metavar="SCRIPT", type=Path, help="a text or Markdown file")
    parser.add_argument("--id", help="the narration's id; default: made of the file's name")
    parser.add_argument("--voice", metavar="NAME", help="default: the voice named `default`")
    _common_arguments(parser)


def _usd(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of USD above 0")
    return amount


def _number(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
