"""Checkpoint: the language model from a local folder, checked before any of it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from gpu_worker.checkpoints.source import ModelError, checked
from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOK_SIZE, CODEBOOKS, END


def load_language_model(folder: Path, device: torch.device) -> Any:
    """Load transformers' model from `folder` to the host: bfloat16 for a CUDA device, float32 for the CPU.

    The text head, which speech never reads, is left out. Raises `ModelError` if the checkpoint
    cannot be read or is not the one this worker is built for.
    """
    checked("model", folder)  # transformers takes its defaults for a configuration that is not there
    try:
        config = HiggsAudioV2Config.from_pretrained(folder, local_files_only=True)
        check_config(config, folder)
        model, report = HiggsAudioV2ForConditionalGeneration.from_pretrained(
            folder,
            config=config,
            # Given here and not by a cast afterwards, which would take the rotary frequencies along.
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
    """Raise `ModelError` for a configuration that the engine's constants do not describe."""
    for name, found, needed in (
        ("codebooks", config.num_codebooks, CODEBOOKS),
        ("codes per codebook", config.codebook_size, CODEBOOK_SIZE),
        ("stream begin code", config.audio_stream_bos_id, BEGIN),
        ("stream end code", config.audio_stream_eos_id, END),
        ("activation", config.hidden_act, "silu"),
        ("attention bias", config.attention_bias, False),
        ("feed-forward bias", config.mlp_bias, False),
    ):
        if found != needed:
            raise ModelError(f"the model in {folder} has {name} {found}; this worker needs {needed}")
