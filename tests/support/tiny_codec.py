"""A codec checkpoint small enough for a test: the published architecture and rates, random weights.

The model class alone would not do: it fills its codebooks with zeros, so that every code becomes
0, and gives the decoder weights so small that every code decodes to silence.
"""

from __future__ import annotations

from pathlib import Path

import torch

from gpu_worker.higgs.codec import tokenizer_classes


def write_tiny_codec(folder: Path, *, seed: int = 0, **changes: object) -> Path:
    """Write a codec checkpoint of about half a million parameters to `folder` and return it.

    `changes` replace top-level configuration values.
    """
    config_class, model_class = tokenizer_classes()
    settings: dict[str, object] = {
        "sample_rate": 24_000,
        "semantic_sample_rate": 16_000,
        "target_bandwidths": [0.5, 1, 1.5, 2],
        "codebook_size": 1024,
        "codebook_dim": 8,
        "acoustic_model_config": {
            "model_type": "dac",
            "encoder_hidden_size": 4,
            "decoder_hidden_size": 64,
            "hidden_size": 16,
            "downsampling_ratios": [8, 5, 4, 2, 3],
            "upsampling_ratios": [8, 5, 4, 2, 3],
        },
        "semantic_model_config": {
            "model_type": "hubert",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "conv_dim": [8] * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "mask_time_prob": 0.0,
        },
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config_class(**settings | changes))
        with torch.no_grad():
            for module in [*model.acoustic_encoder.modules(), *model.acoustic_decoder.modules()]:
                if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
                    module.reset_parameters()
            _spread_codebooks(model.eval())
    model.save_pretrained(folder)
    return folder


def _spread_codebooks(model: torch.nn.Module) -> None:
    """Place each codebook's entries among the encodings of noise, so that sounds differ in their codes."""
    encodings: list[torch.Tensor] = []
    hook = model.fc.register_forward_hook(lambda _module, _inputs, output: encodings.append(output))
    model.encode(0.3 * torch.randn(1, 1, 24_000))
    hook.remove()
    residual = encodings[0][0]  # [frames, hidden]
    for quantizer in model.quantizer.quantizers:
        projected = quantizer.project_in(residual)
        entries = quantizer.codebook.embed
        entries.copy_(projected.mean(0) + projected.std(0) * torch.randn_like(entries))
        residual = residual - quantizer.project_out(entries[quantizer.codebook.quantize(projected)])
