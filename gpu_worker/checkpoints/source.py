"""Checkpoint sources: pinned hub revisions and local folders, and the model id that they make."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ENGINE_REVISION = 1
"""Raised whenever the engine would give the same request other codes or another waveform."""

PINS_FILE = Path(__file__).with_name("models.toml")
ORIGIN_FILE = "origin.toml"  # beside fetched weights: the identity of the checkpoint they come from
CHECKPOINT_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]  # never a pickle

Kind = Literal["model", "codec"]

_ARCHITECTURE: dict[Kind, str] = {"model": "higgs_audio_v2", "codec": "higgs_audio_v2_tokenizer"}
_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")
_FINGERPRINT_BLOCKS = 256  # of 4 KiB, read from each weights file


class ModelError(Exception):
    """A checkpoint that cannot be found, loaded or served; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A repository on the hub and its pinned revision; None while no revision is pinned."""

    repository: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class HubSource:
    """A checkpoint on the hub, at one revision of a repository."""

    kind: Kind
    repository: str
    revision: str

    @property
    def identity(self) -> str:
        """The checkpoint's part of the model id: `owner/name@revision`."""
        return f"{self.repository}@{self.revision}"

    def locate(self, *, cache: Path | None = None) -> Path:
        """The checkpoint's folder in the hub's cache, downloaded if it is not there; raises `ModelError`."""
        from huggingface_hub import snapshot_download  # noqa: PLC0415 -- takes a second to import, and not every source needs it
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 -- as above

        try:
            folder = snapshot_download(
                self.repository, revision=self.revision, cache_dir=cache, allow_patterns=CHECKPOINT_FILES
            )
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise ModelError(f"{self.kind} {self.identity} cannot be loaded from the hub: {error}") from error
        return require_architecture(self.kind, Path(folder))


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A checkpoint in a folder."""

    kind: Kind
    folder: Path

    @property
    def identity(self) -> str:
        """The checkpoint's part of the model id.

        A fetched folder has its origin's, a snapshot in the hub's cache the repository's, any
        other folder a fingerprint of its content.
        """
        origin = self.folder / ORIGIN_FILE
        if origin.is_file():
            return str(tomllib.loads(origin.read_text(encoding="utf-8"))["identity"])
        if snapshot := _SNAPSHOT.search(self.folder.absolute().as_posix()):
            return "{}/{}@{}".format(*snapshot.groups())
        return f"local@{checkpoint_fingerprint(self.folder)}"

    def locate(self, *, cache: Path | None = None) -> Path:  # noqa: ARG002 -- both sources have one signature
        """The folder itself; raises `ModelError` if it holds no such checkpoint."""
        return require_architecture(self.kind, self.folder)


Source = HubSource | FolderSource


def read_pins() -> dict[Kind, Pin]:
    """The repositories in `models.toml`, each with the revision pinned there, if any."""
    table = tomllib.loads(PINS_FILE.read_text(encoding="utf-8"))
    kinds: tuple[Kind, ...] = ("model", "codec")
    return {kind: Pin(table[kind]["repository"], table[kind].get("revision")) for kind in kinds}


def find_source(kind: Kind, reference: str | None) -> Source:
    """The source that `reference` names: a folder, `owner/name@revision`, or None for the pinned one.

    Raises `ModelError` for any other reference, and for None while no revision is pinned.
    """
    if reference is None:
        pin = read_pins()[kind]
        if pin.revision is None:
            raise ModelError(
                f"no revision of {pin.repository} is pinned: run `python -m gpu_worker pin` where the hub"
                f" can be reached, or set WORKER_{kind.upper()} to a folder or to owner/name@revision"
            )
        return HubSource(kind, pin.repository, pin.revision)
    if match := _HUB.fullmatch(reference):
        return HubSource(kind, match["repository"], match["revision"])
    if reference and Path(reference).is_dir():
        return FolderSource(kind, Path(reference))
    raise ModelError(
        f"{kind} {reference!r} is neither a folder here nor owner/name@revision, with all 40 hex digits"
    )


def model_id(model: Source, codec: Source) -> str:
    """The model id that requests carry: engine, both checkpoints and the engine's revision."""
    return f"higgs-audio-v2/{model.identity}+{codec.identity}/engine-{ENGINE_REVISION}"


def require_architecture(kind: Kind, folder: Path) -> Path:
    """Return `folder`; raise `ModelError` if its config.json is not of the architecture of `kind`."""
    try:
        architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{kind} in {folder}: its config.json cannot be read ({error!r})") from error
    if architecture != _ARCHITECTURE[kind]:
        raise ModelError(
            f"{kind} in {folder} is of type {architecture!r}, not {_ARCHITECTURE[kind]!r}: another model,"
            " or a revision from before the weights were published in transformers' layout"
        )
    return folder


def checkpoint_fingerprint(folder: Path) -> str:
    """16 hex digits that change with a checkpoint's content, computed without reading all of it.

    Covers the JSON files (configuration, tokenizer) whole, and of each weights file the name, the
    size, the header and a megabyte taken evenly from its tensors.
    """
    sha = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        sha.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if path.suffix == ".json":
                sha.update(file.read())
                continue
            header = 8 + int.from_bytes(file.read(8), "little")
            file.seek(0)
            sha.update(file.read(min(header, size)))
            for block in range(_FINGERPRINT_BLOCKS):
                file.seek(header + (size - header) * block // _FINGERPRINT_BLOCKS)
                sha.update(file.read(4096))
    return sha.hexdigest()[:16]
