"""Checkpoint sources: references, pins, identities, and refusal of other checkpoints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.hub import REVISION
from support.published_checkpoints import CODEC, MODEL, write_pins, write_published_model

from gpu_worker.checkpoints.source import (
    FolderSource,
    HubSource,
    ModelError,
    checkpoint_fingerprint,
    find_source,
    model_id,
    read_pins,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_published_model(tmp_path / "published-model")


def test_the_pinned_repositories_are_the_published_ones() -> None:
    """models.toml names Boson AI's two repositories, and revisions as 40 hex digits."""
    pins = read_pins()
    assert (pins["model"].repository, pins["codec"].repository) == (MODEL, CODEC)
    for pin in pins.values():
        assert pin.revision is None or re.fullmatch("[0-9a-f]{40}", pin.revision)


def test_a_missing_pin_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pin and without a setting the error names the command and the variable to use."""
    write_pins(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"no revision of .*tokenizer is pinned.*pin.*WORKER_CODEC"):
        find_source("codec", None)


def test_a_pin_is_used_without_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision in models.toml is the checkpoint's, and is in the model id."""
    write_pins(tmp_path, monkeypatch, REVISION)
    pinned = [find_source(kind, None) for kind in ("model", "codec")]
    assert pinned == [HubSource("model", MODEL, REVISION), HubSource("codec", CODEC, REVISION)]
    assert model_id(*pinned) == f"higgs-audio-v2/{MODEL}@{REVISION}+{CODEC}@{REVISION}/engine-1"


@pytest.mark.parametrize(
    "reference",
    [MODEL, f"{MODEL}@main", f"{MODEL}@{REVISION[:12]}", f"{MODEL}@{REVISION.upper()}", "", "/none"],
)
def test_a_reference_that_can_change_is_refused(reference: str) -> None:
    """A branch, a short hash, a repository without a revision and a missing folder are refused."""
    with pytest.raises(ModelError, match="40 hex digits"):
        find_source("model", reference)


def test_a_folders_identity_depends_on_its_content_alone(model: Path, tmp_path: Path) -> None:
    """The fingerprint is the same in another folder, and changes with a weight, a header or a JSON file."""
    first = checkpoint_fingerprint(model)
    assert re.fullmatch("[0-9a-f]{16}", first)
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert (
        find_source("model", str(moved)).identity
        == f"local@{first}"
        == find_source("model", str(model)).identity
    )
    fingerprints = {first}
    weights = moved / "model-00002-of-00002.safetensors"
    for change in (
        lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f"),
        lambda: (moved / "tokenizer.json").write_text('{"model": {"vocab": {}}}'),
        lambda: (moved / "config.json").write_text('{"model_type": "higgs_audio_v2", "rope_theta": 1}'),
        lambda: save_file({"other": torch.zeros(4)}, weights),
        lambda: weights.rename(moved / "model-00003-of-00002.safetensors"),
    ):
        change()
        fingerprints.add(checkpoint_fingerprint(moved))
    assert len(fingerprints) == 6
    (moved / "README.md").write_text("words")
    assert checkpoint_fingerprint(moved) in fingerprints


def test_a_snapshot_in_a_hub_cache_has_the_repositorys_identity(model: Path, tmp_path: Path) -> None:
    """Weights in RunPod's cache have the same identity as those in the image."""
    snapshot = tmp_path / f"hub/models--{MODEL.replace('/', '--')}/snapshots/{REVISION}"
    shutil.copytree(model, snapshot)
    assert FolderSource("model", snapshot).identity == f"{MODEL}@{REVISION}"


@pytest.mark.parametrize(
    "config", ['{"model_type": "higgs_audio"}', '{"model_type": "higgs_audio_v2_tokenizer"}', "{}", "[]", "{"]
)
def test_another_architecture_is_refused(model: Path, config: str) -> None:
    """The original layout, the codec as the model, and a broken configuration: the error names the folder."""
    (model / "config.json").write_text(config)
    with pytest.raises(ModelError, match=str(model)):
        find_source("model", str(model)).locate()
