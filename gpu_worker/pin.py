"""Pin the checkpoints: ask the hub for their newest revisions and write them to models.toml."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu_worker.checkpoints.source import PINS, HubSource, Kind, ModelError, checked, model_id, read_pins

_HEADER = """\
# The checkpoints the worker speaks with, pinned by `python -m gpu_worker pin`.
# Other revisions are another model id, and so other clips: see gpu_worker/README.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    parser.add_argument("--revision", default="main", help="branch or tag to resolve (default: %(default)s)")
    parser.add_argument("--file", type=Path, default=PINS, help="file to rewrite (default: the worker's own)")


def run(options: argparse.Namespace) -> int:
    """Write the revisions and print the model id they make; 1 if one cannot be had or served."""
    try:
        sources = {kind: resolve(kind, pin.repository, options.revision) for kind, pin in read_pins().items()}
        write(options.file, sources)
    except (ModelError, OSError) as error:
        print(f"pin: {error}", file=sys.stderr)  # noqa: T201  # a command's answer
        return 1
    print(model_id(sources["model"], sources["codec"]))  # noqa: T201  # a command's answer
    return 0


def resolve(kind: Kind, repository: str, revision: str) -> HubSource:
    """The commit that `revision` is now, refused if its configuration is not what the worker serves."""
    from huggingface_hub import HfApi, hf_hub_download  # noqa: PLC0415  # a second of import, only here
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415  # as above

    try:
        commit = HfApi().model_info(repository, revision=revision).sha
        config = hf_hub_download(repository, "config.json", revision=commit)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{repository} at {revision!r} cannot be had: {error}") from error
    checked(kind, Path(config).parent)
    return HubSource(kind, repository, str(commit))


def write(path: Path, sources: dict[Kind, HubSource]) -> None:
    """Replace models.toml whole."""
    tables = [
        f'\n[{kind}]\nrepository = "{pinned.repository}"\nrevision = "{pinned.revision}"\n'
        for kind, pinned in sources.items()
    ]
    beside = path.with_suffix(".new")
    beside.write_text(_HEADER + "".join(tables), encoding="utf-8")
    beside.replace(path)
