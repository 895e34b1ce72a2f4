"""Loading the language model: a checkpoint that the engine cannot serve is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.tiny_higgs import SMALL_FIRST_ID, tiny_config, write_tiny_higgs

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.higgs.load_model import load_language_model


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"codebook_size": 1024}, "codes per codebook 1024"),
        ({"num_codebooks": 4}, "codebooks 4"),
        ({"audio_stream_eos_id": 1023}, "stream end code 1023"),
        ({"mlp_bias": True}, "feed-forward bias True"),
    ],
)
def test_another_configuration_is_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    """A configuration that differs from the engine's constants is named, before any weights are read."""
    tiny_config(first_id=SMALL_FIRST_ID, **changes).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{named}; this worker needs"):
        load_language_model(tmp_path, torch.device("cpu"))


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """transformers would fill them with random numbers and synthesize noise."""
    write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID)
    tiny_config(first_id=SMALL_FIRST_ID, num_hidden_layers=3).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lacks \d+ weights, the first: model.layers.2"):
        load_language_model(tmp_path, torch.device("cpu"))


def test_the_text_head_is_not_loaded(tmp_path: Path) -> None:
    """The published checkpoint has one; synthesis never reads it, and it would take 0.8 GB on the device."""
    write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, use_text_head=True)
    assert "text_lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert load_language_model(tmp_path, torch.device("cpu")).text_lm_head is None


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """transformers would load it with its default configuration."""
    with pytest.raises(ModelError, match="cannot be read"):
        load_language_model(tmp_path, torch.device("cpu"))
