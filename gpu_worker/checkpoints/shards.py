"""Splits a checkpoint's weights into files of nearly equal size, so that each fits one image layer."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

INDEX_FILE = "model.safetensors.index.json"
_BLOCK_BYTES = 1 << 24  # copied at a time


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


def split_tensors(tensors: Sequence[StoredTensor], parts: int) -> list[list[StoredTensor]]:
    """Split tensors into `parts` lists of nearly equal size, in order; a list may be empty."""
    total = sum(tensor.size for tensor in tensors) or 1
    shards: list[list[StoredTensor]] = [[] for _ in range(parts)]
    start = 0
    for tensor in tensors:
        # The middle of a tensor decides; min() is for an empty tensor at the very end.
        shards[min((start + tensor.size // 2) * parts // total, parts - 1)].append(tensor)
        start += tensor.size
    return shards


def shard_name(part: int, parts: int) -> str:
    """File name of shard `part` (from 1) of `parts`, as transformers writes it."""
    return f"model-{part:05}-of-{parts:05}.safetensors"


def write_shard(tensors: Sequence[StoredTensor], path: Path) -> None:
    """Write `tensors` to the safetensors file `path`, their bytes unchanged."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [offset, offset + tensor.size],
        }
        offset += tensor.size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data starts at a multiple of 8 bytes
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(encoded)) + encoded)
        for source, group in groupby(tensors, key=lambda tensor: tensor.path):
            with source.open("rb") as file:
                for tensor in group:
                    _copy(file, out, tensor)


def write_index(shards: Sequence[Sequence[StoredTensor]], path: Path) -> None:
    """Write to `path` the index of which shard file holds which tensor."""
    files = {
        tensor.name: shard_name(part, len(shards))
        for part, tensors in enumerate(shards, 1)
        for tensor in tensors
    }
    total = sum(tensor.size for tensors in shards for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    path.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _copy(file: BinaryIO, out: BinaryIO, tensor: StoredTensor) -> None:
    file.seek(tensor.offset)
    left = tensor.size
    while left:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            raise OSError(f"{tensor.path} ends in the middle of tensor {tensor.name}")
        out.write(block)
        left -= len(block)
