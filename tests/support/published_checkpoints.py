"""Folders that look like the published repositories, small: model and codec, for sources and fetching."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpu_worker.checkpoints import source

MODEL = "bosonai/higgs-audio-v2-generation-3B-base"
CODEC = "bosonai/higgs-audio-v2-tokenizer"


def write_published_model(folder: Path) -> Path:
    """Configuration, tokenizer, weights in two files and a pickle that must not be fetched."""
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


def write_published_codec(folder: Path) -> Path:
    """Configuration and one weights file."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "higgs_audio_v2_tokenizer"}')
    save_file({"fc.weight": torch.ones(3, 3)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_pins(folder: Path, monkeypatch: pytest.MonkeyPatch, revision: str = "") -> None:
    """Point the worker to a models.toml of its own, which pins `revision` or, if empty, nothing."""
    line = f'\nrevision = "{revision}"' if revision else ""
    pins = folder / "models.toml"
    pins.write_text(
        f'[model]\nrepository = "{MODEL}"{line}\n[codec]\nrepository = "{CODEC}"{line}\n', encoding="utf-8"
    )
    monkeypatch.setattr(source, "PINS_FILE", pins)
