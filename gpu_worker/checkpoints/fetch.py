"""Fetch the checkpoints into a folder: `python -m gpu_worker.checkpoints.fetch --models DIR`.

This package imports nothing else of the project, so that the image's layers of weights are rebuilt
only when it or `models.toml` changes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_worker.checkpoints.shards import INDEX, read_tensors, shard_name, share, write_index, write_shard
from gpu_worker.checkpoints.source import FILES, ORIGIN, Kind, ModelError, Source, open_source, read_pins


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 if a checkpoint could not be had."""
    parser = argparse.ArgumentParser(prog="gpu_worker fetch", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    where = "folder, or owner/name@revision; default: the pinned repository"
    parser.add_argument(
        "--models", type=Path, required=True, metavar="DIR", help="gets DIR/model and DIR/codec"
    )
    parser.add_argument("--model", metavar="SOURCE", help=where)
    parser.add_argument("--codec", metavar="SOURCE", help=where)
    parser.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="K/N",
        help="write only the K-th of N nearly equal shares of the model's weights; the first brings all else",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="hub cache to download to")


def run(options: argparse.Namespace) -> int:
    """Fetch what `options` name, and say what lies where."""
    try:
        sources: dict[Kind, Source] = {
            "model": _source("model", options.model),
            "codec": _source("codec", options.codec),
        }
        fetch_checkpoints(sources, options.models, part=options.part, cache=options.cache)
    except (ModelError, OSError) as error:
        print(f"fetch: {error}", file=sys.stderr)  # noqa: T201  # a command's answer
        return 1
    for kind, origin in sources.items():
        print(f"{options.models / kind}: {origin.identity}")  # noqa: T201  # a command's answer
    return 0


def fetch_checkpoints(
    sources: dict[Kind, Source], models: Path, *, part: tuple[int, int] = (1, 1), cache: Path | None = None
) -> None:
    """Put each source's files into `models/<kind>` with a note of their origin.

    With `part` (k, n) of n > 1, only the k-th share of the model's weights is written, and
    everything else with the first. Raises `ModelError` for a source that cannot be had.
    """
    number, parts = part
    located = {kind: origin.locate(cache=cache) for kind, origin in sources.items()}
    for kind, folder in located.items():
        target = models / kind
        target.mkdir(parents=True, exist_ok=True)
        split = kind == "model" and parts > 1
        if split:
            dealt = share(read_tensors(folder), parts)
            if dealt[number - 1]:
                write_shard(dealt[number - 1], target / shard_name(number, parts))
        if number > 1:
            continue
        for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
            if not (split and (path.suffix == ".safetensors" or path.name == INDEX)):
                shutil.copyfile(path, target / path.name)
        if split:
            write_index(dealt, target / INDEX)
        (target / ORIGIN).write_text(f'identity = "{sources[kind].identity}"\n', encoding="utf-8")


def _source(kind: Kind, reference: str | None) -> Source:
    """What the flag names, else the revision that the image's build argument names, else the pinned one."""
    argument = f"{kind.upper()}_REVISION"
    pin = read_pins()[kind]
    revision = os.environ.get(argument) or pin.revision
    if reference is None and revision is None:
        raise ModelError(
            f"no revision of {pin.repository} is pinned: build with --build-arg {argument}=<40 hex digits>,"
            " or run `python -m gpu_worker pin` where the hub can be reached and commit models.toml"
        )
    return open_source(kind, reference or f"{pin.repository}@{revision}")


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with 1 <= K <= N")
    return int(number), int(parts)


if __name__ == "__main__":
    sys.exit(main())
