"""Where the checkpoints come from: references, identities, fetching, pinning."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hub import REVISION, hub, worker

from gpu_worker.checkpoints import fetch, source
from gpu_worker.checkpoints.shards import read_tensors, share
from gpu_worker.checkpoints.source import (
    FolderSource,
    HubSource,
    Kind,
    ModelError,
    checkpoint_fingerprint,
    model_id,
    open_source,
    read_pins,
)

MODEL = "bosonai/higgs-audio-v2-generation-3B-base"
CODEC = "bosonai/higgs-audio-v2-tokenizer"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like the language model: configuration, tokenizer, weights in two files."""
    folder = tmp_path / "published-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "higgs_audio_v2"}')
    (folder / "tokenizer.json").write_text('{"model": {}}')
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    generator = torch.Generator().manual_seed(0)
    for file in (1, 2):
        weights = {
            f"layers.{file}.{name}": torch.randn(shape, generator=generator).bfloat16()
            for name, shape in (("up", (64, 48)), ("down", (48, 64)), ("norm", (64,)), ("head", (7, 11)))
        }
        save_file(weights, folder / f"model-{file:05}-of-00002.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def codec(tmp_path: Path) -> Path:
    folder = tmp_path / "published-codec"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "higgs_audio_v2_tokenizer"}')
    save_file({"fc.weight": torch.ones(3, 3)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _unpinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str = "") -> None:
    line = f'\nrevision = "{revision}"' if revision else ""
    pins = tmp_path / "models.toml"
    pins.write_text(
        f'[model]\nrepository = "{MODEL}"{line}\n[codec]\nrepository = "{CODEC}"{line}\n', encoding="utf-8"
    )
    monkeypatch.setattr(source, "PINS", pins)


def test_the_repositories_are_the_published_ones() -> None:
    """models.toml names Boson AI's two repositories, and a revision only as a whole commit."""
    pins = read_pins()
    assert (pins["model"].repository, pins["codec"].repository) == (MODEL, CODEC)
    for pin in pins.values():
        assert pin.revision is None or re.fullmatch("[0-9a-f]{40}", pin.revision)


def test_nobody_s_choice_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a pin and without a setting the worker names the command and the variable to use."""
    _unpinned(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"no revision of .*tokenizer is pinned.*pin.*WORKER_CODEC"):
        open_source("codec", None)


def test_a_pin_is_used_when_nothing_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a revision in source.toml, that revision is the checkpoint and part of the model id."""
    _unpinned(tmp_path, monkeypatch, REVISION)
    pinned = [open_source(kind, None) for kind in ("model", "codec")]
    assert pinned == [HubSource("model", MODEL, REVISION), HubSource("codec", CODEC, REVISION)]
    assert model_id(*pinned) == f"higgs-audio-v2/{MODEL}@{REVISION}+{CODEC}@{REVISION}/engine-1"


@pytest.mark.parametrize(
    "reference",
    [MODEL, f"{MODEL}@main", f"{MODEL}@{REVISION[:12]}", f"{MODEL}@{REVISION.upper()}", "", "/none"],
)
def test_a_reference_that_could_mean_other_weights_tomorrow_is_refused(reference: str) -> None:
    """A branch, a short hash, a bare repository or a missing folder is no checkpoint."""
    with pytest.raises(ModelError, match="40 hex digits"):
        open_source("model", reference)


def test_a_folder_is_known_by_its_content(model: Path, tmp_path: Path) -> None:
    """The fingerprint follows the content elsewhere, and changes with a weight, a header or a JSON text."""
    first = checkpoint_fingerprint(model)
    assert re.fullmatch("[0-9a-f]{16}", first)
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert (
        open_source("model", str(moved)).identity
        == f"local@{first}"
        == open_source("model", str(model)).identity
    )
    seen = {first}
    weights = moved / "model-00002-of-00002.safetensors"
    for change in (
        lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f"),
        lambda: (moved / "tokenizer.json").write_text('{"model": {"vocab": {}}}'),
        lambda: (moved / "config.json").write_text('{"model_type": "higgs_audio_v2", "rope_theta": 1}'),
        lambda: save_file({"other": torch.zeros(4)}, weights),
        lambda: weights.rename(moved / "model-00003-of-00002.safetensors"),
    ):
        change()
        seen.add(checkpoint_fingerprint(moved))
    assert len(seen) == 6
    (moved / "README.md").write_text("words")
    assert checkpoint_fingerprint(moved) in seen


def test_a_snapshot_in_a_hub_cache_is_the_hub_s(model: Path, tmp_path: Path) -> None:
    """Weights that the platform cached have the same identity as those baked into the image."""
    snapshot = tmp_path / f"hub/models--{MODEL.replace('/', '--')}/snapshots/{REVISION}"
    shutil.copytree(model, snapshot)
    assert FolderSource("model", snapshot).identity == f"{MODEL}@{REVISION}"


@pytest.mark.parametrize(
    "config", ['{"model_type": "higgs_audio"}', '{"model_type": "higgs_audio_v2_tokenizer"}', "{}", "[]", "{"]
)
def test_the_wrong_checkpoint_is_refused(model: Path, config: str) -> None:
    """The original layout, the codec in the model's place, and a broken configuration are refused by name."""
    (model / "config.json").write_text(config)
    with pytest.raises(ModelError, match=str(model)):
        open_source("model", str(model)).locate()


def test_fetching_a_folder_keeps_its_identity(model: Path, codec: Path, tmp_path: Path) -> None:
    """What was fetched is the same checkpoint under the same id, and nothing but JSON and tensors."""
    fetched = worker(
        *("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models", "--model", model, "--codec", codec)
    )
    assert fetched.returncode == 0, fetched.stderr
    origins: dict[Kind, Path] = {"model": model, "codec": codec}
    for kind, origin in origins.items():
        folder = tmp_path / "models" / kind
        for path in folder.glob("model*"):
            assert path.read_bytes() == (origin / path.name).read_bytes()
        assert FolderSource(kind, folder).identity == f"local@{checkpoint_fingerprint(origin)}"
        assert f"{folder}: local@{checkpoint_fingerprint(origin)}" in fetched.stdout
        FolderSource(kind, folder).locate()
    assert not (tmp_path / "models/model/training_args.bin").exists()


def _written(folder: Path) -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_parts_together_are_the_whole(model: Path, codec: Path, tmp_path: Path) -> None:
    """Fetched in three parts, each writes its own file alone; every tensor is there, bytes unchanged."""
    target = tmp_path / "models"
    for part in ("1/3", "2/3", "3/3"):
        before = _written(target)
        fetched = worker(
            *(
                "gpu_worker.checkpoints.fetch",
                "--models",
                target,
                "--model",
                model,
                "--codec",
                codec,
                "--part",
                part,
            )
        )
        assert fetched.returncode == 0, fetched.stderr
        added = {path.name for path, _ in _written(target) - before}
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
    """No part exceeds its share by more than half of the largest tensor, and none is lost."""
    tensors = read_tensors(model)
    for parts in range(1, 12):
        dealt = share(tensors, parts)
        assert [tensor for run in dealt for tensor in run] == tensors
        largest = max(tensor.size for tensor in tensors)
        mean = sum(tensor.size for tensor in tensors) / parts
        assert max(sum(tensor.size for tensor in run) for run in dealt) <= mean + largest


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_part_that_does_not_exist_is_refused(part: str, tmp_path: Path) -> None:
    """A part outside 1..N writes nothing and says what a part is."""
    refused = worker("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models", f"--part={part}")
    assert refused.returncode == 2
    assert "K/N" in refused.stderr
    assert not (tmp_path / "models").exists()


def test_an_image_without_a_revision_stops_with_the_argument_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Building with no revision chosen ends at once, naming the build argument and the command."""
    _unpinned(tmp_path, monkeypatch)
    monkeypatch.setenv("MODEL_REVISION", REVISION)
    monkeypatch.setenv("CODEC_REVISION", "")
    assert fetch.main(["--models", str(tmp_path / "models")]) == 1
    stopped = capsys.readouterr().err
    assert f"no revision of {CODEC} is pinned: build with --build-arg CODEC_REVISION=" in stopped
    assert "python -m gpu_worker pin" in stopped


def test_a_revision_is_fetched_from_the_hub(model: Path, codec: Path, tmp_path: Path) -> None:
    """The build arguments' revisions are downloaded once, and found again in the cache without a network."""
    environment = {"MODEL_REVISION": REVISION, "CODEC_REVISION": REVISION, "HF_HOME": tmp_path / "hf"}
    with hub({MODEL: model, CODEC: codec}) as endpoint:
        fetched = worker(
            *("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models"),
            HF_ENDPOINT=endpoint,
            **environment,
        )
    assert fetched.returncode == 0, fetched.stderr
    assert f"{MODEL}@{REVISION}" in fetched.stdout
    assert FolderSource("codec", tmp_path / "models/codec").identity == f"{CODEC}@{REVISION}"
    assert not list((tmp_path / "hf").rglob("training_args.bin"))
    offline = worker(
        *("gpu_worker.checkpoints.fetch", "--models", tmp_path / "again"), HF_HUB_OFFLINE="1", **environment
    )
    assert offline.returncode == 0, offline.stderr
    for path in (tmp_path / "models").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "models")).read_bytes()


def test_a_hub_that_lacks_the_revision_is_named(model: Path, tmp_path: Path) -> None:
    """An unknown revision, and no network with an empty cache, end with what was sought and status 1."""
    environment = {"HF_HOME": tmp_path / "hf", "CODEC_REVISION": REVISION, "MODEL_REVISION": REVISION[::-1]}
    fetch_it = ("gpu_worker.checkpoints.fetch", "--models", tmp_path / "models")
    with hub({MODEL: model}) as endpoint:
        unknown = worker(*fetch_it, HF_ENDPOINT=endpoint, **environment)
    offline = worker(*fetch_it, HF_HUB_OFFLINE="1", **environment)
    for failed in (unknown, offline):
        assert failed.returncode == 1
        assert f"model {MODEL}@{REVISION[::-1]} cannot be had" in failed.stderr
        assert "Traceback" not in failed.stderr
