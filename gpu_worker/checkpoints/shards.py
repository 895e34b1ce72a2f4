"""A checkpoint's weights as files of nearly equal size, so that no image layer exceeds a registry's limit."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

INDEX = "model.safetensors.index.json"
_COPY = 1 << 24  # bytes copied at a time


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a safetensors file: `size` bytes of data at byte `offset` of `path`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int


def read_tensors(folder: Path) -> list[StoredTensor]:
    """All tensors of the folder's safetensors files, in the order they are stored."""
    tensors = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                shape = tuple(entry["shape"])
                tensors.append(
                    StoredTensor(name, entry["dtype"], shape, path, 8 + length + begin, end - begin)
                )
    return sorted(tensors, key=lambda tensor: (tensor.path.name, tensor.offset))


def share(tensors: Sequence[StoredTensor], parts: int) -> list[list[StoredTensor]]:
    """Deal tensors into `parts` runs of nearly equal size, in order; some are empty if there are few."""
    total = sum(tensor.size for tensor in tensors) or 1
    dealt: list[list[StoredTensor]] = [[] for _ in range(parts)]
    before = 0
    for tensor in tensors:
        # By where its middle lies; only an empty tensor at the very end has none before the end.
        dealt[min((before + tensor.size // 2) * parts // total, parts - 1)].append(tensor)
        before += tensor.size
    return dealt


def shard_name(part: int, parts: int) -> str:
    """File name of the `part`-th (from 1) of `parts` files, as transformers writes it."""
    return f"model-{part:05}-of-{parts:05}.safetensors"


def write_shard(tensors: Sequence[StoredTensor], path: Path) -> None:
    """Write `tensors` to one safetensors file, copying their bytes as they are."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [at, at + tensor.size],
        }
        at += tensor.size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # data begins aligned
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(encoded)) + encoded)
        for origin, stored in groupby(tensors, key=lambda tensor: tensor.path):
            with origin.open("rb") as file:
                for tensor in stored:
                    _copy(file, out, tensor)


def write_index(dealt: Sequence[Sequence[StoredTensor]], path: Path) -> None:
    """Write which file holds which tensor."""
    files = {tensor.name: shard_name(part, len(dealt)) for part, run in enumerate(dealt, 1) for tensor in run}
    total = sum(tensor.size for run in dealt for tensor in run)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _copy(file: BinaryIO, out: BinaryIO, tensor: StoredTensor) -> None:
    file.seek(tensor.offset)
    left = tensor.size
    while left:
        block = file.read(min(left, _COPY))
        if not block:
            raise OSError(f"{tensor.path} ends within {tensor.name}")
        out.write(block)
        left -= len(block)
