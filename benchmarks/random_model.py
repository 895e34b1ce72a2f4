"""Higgs Audio V2 with random weights in several sizes, and requests for it.

Speed does not depend on what the weights say, so no benchmark of the engine needs a download. No
clip ends before its last step: every slot is busy throughout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

# The tests' makers of small checkpoints, here at other sizes.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

LAYOUT_TOKENS = 60  # tokens of a prompt that belong to its layout
TEXT_TOKENS = 100  # tokens of a chunk's own text
AUDIO_TOKEN_ID = 128_016

PUBLISHED: dict[str, Any] = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
SIZES: dict[str, dict[str, Any]] = {
    "full": PUBLISHED,
    "mid": PUBLISHED
    | {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 8}
    | {"num_attention_heads": 9, "num_key_value_heads": 3},
    "deep": PUBLISHED
    | {"hidden_size": 96, "intermediate_size": 256}
    | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32},
    "tiny": {},
}
"""Changes to the tests' tiny configuration. `full` is the published model; `mid` has matrices large
enough to dominate a step, `deep` the published depth with small ones; `tiny` is for rehearsals."""

PUBLISHED_CODEC: dict[str, Any] = {
    "codebook_dim": 64,
    "acoustic_model_config": {
        "model_type": "dac",
        "encoder_hidden_size": 64,
        "decoder_hidden_size": 1024,
        "hidden_size": 256,
        "downsampling_ratios": [8, 5, 4, 2, 3],
        "upsampling_ratios": [8, 5, 4, 2, 3],
    },
    "semantic_model_config": {"model_type": "hubert", "mask_time_prob": 0.0},
}


def model_config(size: str) -> Any:
    """The configuration of a size, with the published token ids."""
    from support.tiny_higgs import tiny_config

    return tiny_config(**SIZES[size])


def make_language_model(size: str, device: torch.device) -> Any:
    """Make transformers' model with random weights on `device`: bfloat16 on CUDA, float32 on the CPU."""
    from transformers import GenerationConfig, HiggsAudioV2ForConditionalGeneration

    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        with device:
            model = HiggsAudioV2ForConditionalGeneration(model_config(size))
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        model.audio_lm_head.weight.view(8, 1026, -1)[:, 1024:] = 0  # begin and end codes are never likely
    ids = {"eos_token_id": model.config.eos_token_id, "pad_token_id": model.config.pad_token_id}
    model.generation_config = GenerationConfig(**ids)
    return model.eval()


def write_codec(size: str, folder: Path) -> Path:
    """Write a random codec to `folder`: the published size for `full`, else the tests' tiny one."""
    from support.tiny_codec import write_tiny_codec

    return write_tiny_codec(folder, **(PUBLISHED_CODEC if size == "full" else {}))


def write_tokenizer(folder: Path) -> None:
    """Write the tests' tokenizer to `folder`, with the published control token ids."""
    from support.tiny_higgs import write_tiny_tokenizer

    write_tiny_tokenizer(folder)


def random_prompt(voice_tokens: int, text_tokens: int, *, seed: int = 0) -> Any:
    """A prompt of random tokens: layout and `voice_tokens` of audio as prefix, `text_tokens` as suffix."""
    from gpu_worker.higgs.prompt import Prompt, PromptPart

    random = np.random.default_rng(seed)
    stream = random.integers(0, 1024, (voice_tokens, 8)).astype(np.int16)
    voice = PromptPart(np.full(voice_tokens, AUDIO_TOKEN_ID), stream)
    layout = PromptPart(random.integers(0, 300, LAYOUT_TOKENS))
    return Prompt((layout, voice), (PromptPart(random.integers(0, 300, text_tokens)),))


def random_sequences(slots: int, *, context: int, steps: int) -> list[Any]:
    """One sampled sequence for each slot, which hold `context` tokens when half of `steps` are done."""
    from gpu_worker.higgs.sampler import Sampling
    from gpu_worker.higgs.sequence import Sequence

    prompt = random_prompt(context - LAYOUT_TOKENS - TEXT_TOKENS - steps // 2, TEXT_TOKENS)
    return [
        Sequence(
            prompt, Sampling(0.3, 50, 0.95, seed=slot, ras_window=7, ras_repeats=2), steps + 64, slot=slot
        )
        for slot in range(slots)
    ]
