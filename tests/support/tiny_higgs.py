"""A language model checkpoint small enough for a test: the published layout, random weights.

Two vocabularies: control tokens with the published ids, or with small ids, which fails code that
has a published id written into it. Two kinds of ending: with `counting` codebook 0 counts frames
and ends the clip after that many; otherwise the prompt decides when, and by which codebook.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    HiggsAudioV2Config,
    HiggsAudioV2ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

END = 1025

torch.set_num_threads(1)  # more threads are slower for models this small

CONTROL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|audio_out_bos|>",
    "<|reserved_special_token_6|>",
    "<|AUDIO|>",
    "<|AUDIO_OUT|>",
    "<|scene_desc_start|>",
    "<|scene_desc_end|>",
)

PUBLISHED_FIRST_ID = 128_000
SMALL_FIRST_ID = 400

CHAT_TEMPLATE = """\
{%- macro open(role) -%}<|start_header_id|>{{ role }}<|end_header_id|>{{ '\\n\\n' }}{%- endmacro -%}
{%- macro words(content) -%}
{%- if content is string -%}{{ content | trim }}
{%- else -%}{%- for item in content if item.type == 'text' -%}{{ item.text | trim }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- if messages[0].role != 'system' -%}{{ raise_exception('a system message comes first') }}{%- endif -%}
{{- open('system') + words(messages[0].content) -}}
{%- set turns = messages[1:] -%}
{%- if turns and turns[0].role == 'scene' -%}
{{- '\\n\\n<|scene_desc_start|>\\n' + words(turns[0].content) + '\\n<|scene_desc_end|>' -}}
{%- set turns = turns[1:] -%}
{%- endif -%}
{{- '<|eot_id|>' -}}
{%- for turn in turns -%}
{{- open(turn.role) -}}
{%- if turn.role == 'assistant' -%}{{ '<|audio_out_bos|><|AUDIO_OUT|><|audio_eos|>' }}
{%- else -%}{{ words(turn.content) }}
{%- endif -%}
{{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ open('assistant') + '<|audio_out_bos|>' }}{%- endif -%}
"""
"""Renders the same layout as the chat template that is published with the checkpoint."""


_TRAINING_TEXT = (
    """The quick brown fox jumps over the lazy dog. She sells sea shells on the sea shore,
and the sun rises in the east. Audio is recorded from a quiet room. Generate audio following instruction.
"""
    + "She sells.\n\nAudio\n\n\n\n" * 9
)  # so that the layout's blank lines become tokens, as in the published tokenizer


def write_tiny_tokenizer(
    folder: Path, *, first_id: int = PUBLISHED_FIRST_ID, without: Collection[str] = ()
) -> None:
    """Write a byte-level tokenizer to `folder`; its control tokens have ids from `first_id`."""
    trained = Tokenizer(models.BPE(ignore_merges=True))
    # Splits words, numbers, punctuation and white space as the published tokenizer does.
    pattern = Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator([_TRAINING_TEXT], trainer)
    described = json.loads(trained.to_str())
    ids = {token: first_id + place for place, token in enumerate(CONTROL_TOKENS) if token not in without}
    described["model"]["vocab"] |= ids  # the only way to leave unused ids below them
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    described["added_tokens"] = [{"id": ids[token], "content": token, **flags} for token in ids]
    backend = Tokenizer.from_str(json.dumps(described))
    bos = CONTROL_TOKENS[0]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, ids[bos])]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token="<|eot_id|>")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def tiny_config(*, first_id: int = PUBLISHED_FIRST_ID, **changes: object) -> Any:
    """The published configuration with small sizes and control tokens from `first_id`."""
    ids = {token: first_id + place for place, token in enumerate(CONTROL_TOKENS)}
    settings: dict[str, object] = {
        "vocab_size": 128_256 if first_id == PUBLISHED_FIRST_ID else first_id + len(CONTROL_TOKENS) + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "codebook_size": 1026,
        "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": ids["<|eot_id|>"],
        "pad_token_id": ids["<|end_of_text|>"],
        "audio_token_id": ids["<|AUDIO_OUT|>"],
        "audio_bos_token_id": ids["<|audio_out_bos|>"],
        "audio_delay_token_id": ids["<|reserved_special_token_6|>"],
        "audio_stream_bos_id": 1024,
        "audio_stream_eos_id": 1025,
    }
    return HiggsAudioV2Config(**settings | changes)


def write_tiny_higgs(
    folder: Path,
    *,
    first_id: int = PUBLISHED_FIRST_ID,
    counting: int | None = None,
    ending: bool = True,
    use_text_head: bool = False,
    seed: int = 2,
    **changes: object,
) -> Path:
    """Write a checkpoint with its tokenizer to `folder` and return it; `changes` go to the configuration.

    With `counting` every clip has exactly that many frames (at most `hidden_size` - 2); without it
    a clip has a few dozen frames, by the prompt, and any codebook may end it; with `ending` False
    no clip ends.
    """
    config = tiny_config(first_id=first_id, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = HiggsAudioV2ForConditionalGeneration(config, use_text_head=use_text_head)
        with torch.no_grad():
            _spread(model, end=1.15 if ending else 0)
            if counting is not None:
                _make_count(model, counting)
    ends = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, ras_win_len=7, ras_win_max_num_repeat=2, **ends
    )
    model.save_pretrained(folder)
    write_tiny_tokenizer(folder, first_id=first_id)
    return folder


def _spread(model: Any, *, end: float) -> None:
    """Make the weights large enough that every code depends on all codes before it.

    `end` scales the head's weights for end codes: a larger one ends clips sooner.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.normal_(std=1.5 / module.in_features**0.5)
        elif isinstance(module, torch.nn.Embedding):
            module.weight.normal_()
    head = model.audio_lm_head.weight.view(8, 1026, -1)
    head[:, 1024] = 0  # no begin code in the middle of a clip
    head[:, END] *= end


def _make_count(model: Any, frames: int) -> None:
    """Make codebook 0 say 0, 1, 2 and so on, and end after `frames` codes, whatever the prompt."""
    size = model.config.hidden_size
    assert frames <= size - 2, "counting needs a hidden dimension for each frame"
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        layer.audio_mlp.down_proj.weight.zero_()
    embed = model.model.embed_audio_tokens.embed_audio_tokens.weight.view(8, 1026, -1)
    head = model.audio_lm_head.weight.view(8, 1026, -1)
    head[:, END] = 0
    embed[1:] *= 0.01
    embed[0] = 0
    head[0] = 0
    embed[0, 1024, frames] = 10  # the begin code is followed by code 0
    head[0, 0, frames] = 10
    for code in range(frames):
        embed[0, code, code] = 10
        head[0, code + 1 if code + 1 < frames else END, code] = 10
