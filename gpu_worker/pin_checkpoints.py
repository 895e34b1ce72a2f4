"""Pins the checkpoints: writes the hub's newest revisions of both repositories to models.toml."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu_worker.checkpoints.source import (
    PINS_FILE,
    HubSource,
    Kind,
    ModelError,
    model_id,
    read_pins,
    require_architecture,
)

_HEADER = """\
# The worker's checkpoints, pinned by `python -m gpu_worker pin`.
# Other revisions make another model id, and so other clips: see gpu_worker/README.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to `parser`."""
    parser.add_argument("--revision", default="main", help="branch or tag to resolve (default: %(default)s)")
    parser.add_argument(
        "--file", type=Path, default=PINS_FILE, help="file to write (default: the worker's own models.toml)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the revisions and print the model id they make; 1 if one cannot be found or served."""
    try:
        sources = {kind: resolve(kind, pin.repository, options.revision) for kind, pin in read_pins().items()}
        write(options.file, sources)
    except (ModelError, OSError) as error:
        print(f"pin: {error}", file=sys.stderr)  # noqa: T201 -- the command's output
        return 1
    print(model_id(sources["model"], sources["codec"]))  # noqa: T201 -- the command's output
    return 0


def resolve(kind: Kind, repository: str, revision: str) -> HubSource:
    """The commit that `revision` names now; raises `ModelError` if it is missing or not servable."""
    from huggingface_hub import HfApi, hf_hub_download  # noqa: PLC0415 -- takes a second to import
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 -- as above

    try:
        commit = HfApi().model_info(repository, revision=revision).sha
        config = hf_hub_download(repository, "config.json", revision=commit)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{repository} at {revision!r} cannot be found on the hub: {error}") from error
    require_architecture(kind, Path(config).parent)
    return HubSource(kind, repository, str(commit))


def write(path: Path, sources: dict[Kind, HubSource]) -> None:
    """Write models.toml anew, in one step: a reader sees the old file or the new one."""
    tables = [
        f'\n[{kind}]\nrepository = "{source.repository}"\nrevision = "{source.revision}"\n'
        for kind, source in sources.items()
    ]
    new = path.with_suffix(".new")
    new.write_text(_HEADER + "".join(tables), encoding="utf-8")
    new.replace(path)
