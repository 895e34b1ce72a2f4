"""Which checkpoints the worker speaks with: where they lie, and the model id they make."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ENGINE_REVISION = 1
"""Raised whenever the engine would answer the same request with other codes or another waveform."""

PINS = Path(__file__).with_name("models.toml")
ORIGIN = "origin.toml"  # beside fetched weights: the identity of what they were fetched from
FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]  # what a checkpoint is made of; never a pickle

Kind = Literal["model", "codec"]

_ARCHITECTURE: dict[Kind, str] = {"model": "higgs_audio_v2", "codec": "higgs_audio_v2_tokenizer"}
_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")
_SAMPLES = 256  # of 4 KiB, read from each weights file for its fingerprint


class ModelError(Exception):
    """A checkpoint that cannot be found, read or served; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A repository on the hub, and the revision of it to use once somebody chose one."""

    repository: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class HubSource:
    """A checkpoint at one revision of a repository."""

    kind: Kind
    repository: str
    revision: str

    @property
    def identity(self) -> str:
        """What goes into the model id."""
        return f"{self.repository}@{self.revision}"

    def locate(self, *, cache: Path | None = None) -> Path:
        """Its folder in the hub's cache, downloaded where that is allowed; raises `ModelError`."""
        from huggingface_hub import snapshot_download  # noqa: PLC0415  # a second of import, not always needed
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415  # as above

        try:
            found = snapshot_download(
                self.repository, revision=self.revision, cache_dir=cache, allow_patterns=FILES
            )
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise ModelError(f"{self.kind} {self.identity} cannot be had: {error}") from error
        return checked(self.kind, Path(found))


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A checkpoint in a folder."""

    kind: Kind
    folder: Path

    @property
    def identity(self) -> str:
        """Of a folder that was fetched, that of its origin; of any other, a fingerprint of its content."""
        origin = self.folder / ORIGIN
        if origin.is_file():
            return str(tomllib.loads(origin.read_text(encoding="utf-8"))["identity"])
        if snapshot := _SNAPSHOT.search(self.folder.absolute().as_posix()):
            return "{}/{}@{}".format(*snapshot.groups())
        return f"local@{checkpoint_fingerprint(self.folder)}"

    def locate(self, *, cache: Path | None = None) -> Path:  # noqa: ARG002  # one signature for both sources
        """The folder itself; raises `ModelError` if it holds no such checkpoint."""
        return checked(self.kind, self.folder)


Source = HubSource | FolderSource


def read_pins() -> dict[Kind, Pin]:
    """The repositories of `models.toml`, with their revisions where it names them."""
    table = tomllib.loads(PINS.read_text(encoding="utf-8"))
    kinds: tuple[Kind, ...] = ("model", "codec")
    return {kind: Pin(table[kind]["repository"], table[kind].get("revision")) for kind in kinds}


def open_source(kind: Kind, reference: str | None) -> Source:
    """Where a checkpoint comes from: a folder, `owner/name@revision`, or for None the pinned one.

    Raises `ModelError` for a reference that is neither, and for a repository that nobody pinned.
    """
    if reference is None:
        pin = read_pins()[kind]
        if pin.revision is None:
            raise ModelError(
                f"no revision of {pin.repository} is pinned: run `python -m gpu_worker pin` where the hub"
                f" can be reached, or set WORKER_{kind.upper()} to a folder or to owner/name@revision"
            )
        return HubSource(kind, pin.repository, pin.revision)
    if named := _HUB.fullmatch(reference):
        return HubSource(kind, named["repository"], named["revision"])
    if reference and Path(reference).is_dir():
        return FolderSource(kind, Path(reference))
    raise ModelError(
        f"{kind} {reference!r} is neither a folder here nor owner/name@revision, with all 40 hex digits"
    )


def model_id(model: Source, codec: Source) -> str:
    """The id that requests carry: engine, weights and the engine's revision."""
    return f"higgs-audio-v2/{model.identity}+{codec.identity}/engine-{ENGINE_REVISION}"


def checked(kind: Kind, folder: Path) -> Path:
    """`folder`, if its configuration is of the architecture that `kind` needs; else `ModelError`."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{kind} in {folder}: its config.json cannot be read ({error!r})") from error
    if found != _ARCHITECTURE[kind]:
        raise ModelError(
            f"{kind} in {folder} is of type {found!r}, not {_ARCHITECTURE[kind]!r}: another model, or a"
            " revision from before the weights were published in transformers' layout"
        )
    return folder


def checkpoint_fingerprint(folder: Path) -> str:
    """16 hex digits that change with a checkpoint's content, without reading all of it.

    Covers every JSON file whole (configuration, tokenizer) and each weights file's name, size,
    header and a megabyte sampled evenly over its tensors.
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
            for sample in range(_SAMPLES):
                file.seek(header + (size - header) * sample // _SAMPLES)
                sha.update(file.read(4096))
    return sha.hexdigest()[:16]
