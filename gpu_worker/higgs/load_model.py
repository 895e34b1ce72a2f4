"""Loads the language model's checkpoint from a local folder, and checks its configuration and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from gpu_worker.checkpoints.source import ModelError, require_architecture
from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOK_SIZE, CODEBOOKS, END


def load_language_model(folder: Path, device: torch.device) -> Any:
    """Load transformers' model into host memory: bfloat16 for a CUDA device, float32 for the CPU.

    The text head is not loaded, since synthesis never reads it. Raises `ModelError` if the
    checkpoint cannot be read or is not of the architecture that this worker is built for.
    """
    require_architecture("model", folder)  # without a config.json transformers would use its defaults
    try:
        config = HiggsAudioV2Config.from_pretrained(folder, local_files_only=True)
        check_config(config, folder)
        model, report = HiggsAudioV2ForConditionalGeneration.from_pretrained(
            folder,
            config=config,
            # Set here: a later cast of the model would also cast the rotary frequencies.
            dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the model in {folder} cannot be loaded: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"the model in {folder} lacks {len(missing)} weights, the first: {missing[0]}")
    return model.eval()


def check_config(config: Any, folder: Path) -> None:
    """Raise `ModelError` if the configuration differs from the engine's constants."""
    for name, value, needed in (
        ("codebooks", config.num_codebooks, CODEBOOKS),
        ("codes per codebook", config.codebook_size, CODEBOOK_SIZE),
        ("stream begin code", config.audio_stream_bos_id, BEGIN),
        ("stream end code", config.audio_stream_eos_id, END),
        ("activation", config.hidden_act, "silu"),
        ("attention bias", config.attention_bias, False),
        ("feed-forward bias", config.mlp_bias, False),
    ):
        if value != needed:
            raise ModelError(f"the model in {folder} has {name} {value}; this worker needs {needed}")
