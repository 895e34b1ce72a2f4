"""Fetches the checkpoints into a folder: `python -m gpu_worker.checkpoints.fetch --models DIR`.

The package `gpu_worker.checkpoints` imports nothing else of the project, so that the image's
layers of weights are rebuilt only when this package or `models.toml` changes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_worker.checkpoints.shards import (
    INDEX_FILE,
    read_tensors,
    shard_name,
    split_tensors,
    write_index,
    write_shard,
)
from gpu_worker.checkpoints.source import (
    CHECKPOINT_FILES,
    ORIGIN_FILE,
    Kind,
    ModelError,
    Source,
    find_source,
    read_pins,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 if a checkpoint could not be fetched."""
    parser = argparse.ArgumentParser(prog="gpu_worker fetch", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to `parser`."""
    reference = "folder, or owner/name@revision; default: the pinned repository"
    parser.add_argument(
        "--models", type=Path, required=True, metavar="DIR", help="folder for DIR/model and DIR/codec"
    )
    parser.add_argument("--model", metavar="SOURCE", help=reference)
    parser.add_argument("--codec", metavar="SOURCE", help=reference)
    parser.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="K/N",
        help="write only shard K of N of the model's weights; shard 1 comes with all other files",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="hub cache to download into")


def run(options: argparse.Namespace) -> int:
    """Fetch both checkpoints and print their folders and identities; 1 if one cannot be fetched."""
    try:
        sources: dict[Kind, Source] = {
            "model": _source("model", options.model),
            "codec": _source("codec", options.codec),
        }
        fetch_checkpoints(sources, options.models, part=options.part, cache=options.cache)
    except (ModelError, OSError) as error:
        print(f"fetch: {error}", file=sys.stderr)  # noqa: T201 -- the command's output
        return 1
    for kind, source in sources.items():
        print(f"{options.models / kind}: {source.identity}")  # noqa: T201 -- the command's output
    return 0


def fetch_checkpoints(
    sources: dict[Kind, Source], models: Path, *, part: tuple[int, int] = (1, 1), cache: Path | None = None
) -> None:
    """Copy each source's files into `models/<kind>`, with its identity in `origin.toml`.

    With `part` (k, n) and n > 1, only shard k of n of the model's weights is written; all other
    files come with shard 1. Raises `ModelError` for a source that cannot be found or downloaded.
    """
    number, parts = part
    folders = {kind: source.locate(cache=cache) for kind, source in sources.items()}
    for kind, folder in folders.items():
        target = models / kind
        target.mkdir(parents=True, exist_ok=True)
        split = kind == "model" and parts > 1
        if split:
            shards = split_tensors(read_tensors(folder), parts)
            if shards[number - 1]:
                write_shard(shards[number - 1], target / shard_name(number, parts))
        if number > 1:
            continue
        for path in sorted({path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)}):
            if not (split and (path.suffix == ".safetensors" or path.name == INDEX_FILE)):
                shutil.copyfile(path, target / path.name)
        if split:
            write_index(shards, target / INDEX_FILE)
        (target / ORIGIN_FILE).write_text(f'identity = "{sources[kind].identity}"\n', encoding="utf-8")


def _source(kind: Kind, reference: str | None) -> Source:
    """The source that the flag names, else the build argument's revision, else the pinned revision."""
    argument = f"{kind.upper()}_REVISION"
    pin = read_pins()[kind]
    revision = os.environ.get(argument) or pin.revision
    if reference is None and revision is None:
        raise ModelError(
            f"no revision of {pin.repository} is pinned: build with --build-arg {argument}=<40 hex digits>,"
            " or run `python -m gpu_worker pin` where the hub can be reached and commit models.toml"
        )
    return find_source(kind, reference or f"{pin.repository}@{revision}")


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with 1 <= K <= N")
    return int(number), int(parts)


if __name__ == "__main__":
    sys.exit(main())
