"""Fetching checkpoints: from folders and from the hub, whole and in parts for the image's layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.hub import REVISION, hub, run_module
from support.published_checkpoints import (
    CODEC,
    MODEL,
    write_pins,
    write_published_codec,
    write_published_model,
)

from gpu_worker.checkpoints import fetch
from gpu_worker.checkpoints.shards import read_tensors, split_tensors
from gpu_worker.checkpoints.source import FolderSource, Kind, checkpoint_fingerprint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_published_model(tmp_path / "published-model")


@pytest.fixture
def codec(tmp_path: Path) -> Path:
    return write_published_codec(tmp_path / "published-codec")


def test_a_fetched_folder_keeps_its_identity(model: Path, codec: Path, tmp_path: Path) -> None:
    """The fetched checkpoint has its origin's identity, and only JSON and safetensors files."""
    fetched = run_module(
        *("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models", "--model", model, "--codec", codec)
    )
    assert fetched.returncode == 0, fetched.stderr
    sources: dict[Kind, Path] = {"model": model, "codec": codec}
    for kind, published in sources.items():
        folder = tmp_path / "models" / kind
        for path in folder.glob("model*"):
            assert path.read_bytes() == (published / path.name).read_bytes()
        assert FolderSource(kind, folder).identity == f"local@{checkpoint_fingerprint(published)}"
        assert f"{folder}: local@{checkpoint_fingerprint(published)}" in fetched.stdout
        FolderSource(kind, folder).locate()
    assert not (tmp_path / "models/model/training_args.bin").exists()


def _files(folder: Path) -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_all_parts_together_are_the_whole_checkpoint(model: Path, codec: Path, tmp_path: Path) -> None:
    """Each of three parts writes its own shard; together they hold every tensor, bytes unchanged."""
    target = tmp_path / "models"
    for part in ("1/3", "2/3", "3/3"):
        before = _files(target)
        sources = ("--model", model, "--codec", codec)
        fetched = run_module("gpu_worker.checkpoints.fetch", "--models", target, *sources, "--part", part)
        assert fetched.returncode == 0, fetched.stderr
        added = {path.name for path, _ in _files(target) - before}
        shard = f"model-0000{part[0]}-of-00003.safetensors"
        assert added == {shard} if part != "1/3" else shard in added
    published = load_file(model / "model-00001-of-00002.safetensors")
    published |= load_file(model / "model-00002-of-00002.safetensors")
    index = json.loads((target / "model/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(published)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in published.values())
    assert {path.name for path in (target / "model").glob("*.safetensors")} == set(
        index["weight_map"].values()
    )
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(target / "model" / file)[name], published[name])
    assert FolderSource("model", target / "model").identity == f"local@{checkpoint_fingerprint(model)}"


def test_parts_are_nearly_equal(model: Path) -> None:
    """No shard exceeds the mean by more than the largest tensor, and no tensor is lost."""
    tensors = read_tensors(model)
    for parts in range(1, 12):
        shards = split_tensors(tensors, parts)
        assert [tensor for shard in shards for tensor in shard] == tensors
        largest = max(tensor.size for tensor in tensors)
        mean = sum(tensor.size for tensor in tensors) / parts
        assert max(sum(tensor.size for tensor in shard) for shard in shards) <= mean + largest


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_part_that_does_not_exist_is_refused(part: str, tmp_path: Path) -> None:
    """A part outside 1..N writes nothing, and the error shows the form K/N."""
    refused = run_module("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models", f"--part={part}")
    assert refused.returncode == 2
    assert "K/N" in refused.stderr
    assert not (tmp_path / "models").exists()


def test_a_build_without_a_revision_stops_and_names_the_build_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fetching without a revision ends at once, naming the build argument and the command that pins."""
    write_pins(tmp_path, monkeypatch)
    monkeypatch.setenv("MODEL_REVISION", REVISION)
    monkeypatch.setenv("CODEC_REVISION", "")
    assert fetch.main(["--models", str(tmp_path / "models")]) == 1
    error = capsys.readouterr().err
    assert f"no revision of {CODEC} is pinned: build with --build-arg CODEC_REVISION=" in error
    assert "python -m gpu_worker pin" in error


def test_a_revision_is_fetched_from_the_hub(model: Path, codec: Path, tmp_path: Path) -> None:
    """The build arguments' revisions are downloaded once, then taken from the cache without a network."""
    environment = {"MODEL_REVISION": REVISION, "CODEC_REVISION": REVISION, "HF_HOME": tmp_path / "hf"}
    with hub({MODEL: model, CODEC: codec}) as endpoint:
        fetched = run_module(
            *("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models"),
            HF_ENDPOINT=endpoint,
            **environment,
        )
    assert fetched.returncode == 0, fetched.stderr
    assert f"{MODEL}@{REVISION}" in fetched.stdout
    assert FolderSource("codec", tmp_path / "models/codec").identity == f"{CODEC}@{REVISION}"
    assert not list((tmp_path / "hf").rglob("training_args.bin"))
    offline = run_module(
        *("gpu_worker.checkpoints.fetch", "--models", tmp_path / "again"), HF_HUB_OFFLINE="1", **environment
    )
    assert offline.returncode == 0, offline.stderr
    for path in (tmp_path / "models").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "models")).read_bytes()


def test_a_revision_that_the_hub_lacks_is_named(model: Path, tmp_path: Path) -> None:
    """For an unknown revision, and for an empty cache without a network, the error names it; status 1."""
    environment = {"HF_HOME": tmp_path / "hf", "CODEC_REVISION": REVISION, "MODEL_REVISION": REVISION[::-1]}
    command = ("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models")
    with hub({MODEL: model}) as endpoint:
        unknown = run_module(*command, HF_ENDPOINT=endpoint, **environment)
    offline = run_module(*command, HF_HUB_OFFLINE="1", **environment)
    for failed in (unknown, offline):
        assert failed.returncode == 1
        assert f"model {MODEL}@{REVISION[::-1]} cannot be loaded from the hub" in failed.stderr
        assert "Traceback" not in failed.stderr
