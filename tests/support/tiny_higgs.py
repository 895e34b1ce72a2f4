"""A language model checkpoint small enough for a test: the published layout, random weights.

Two vocabularies: the published ids, and a small one with other ids that would show a number
written where a token should be looked up. Two kinds of ending: `counting` makes codebook 0 count
and end after exactly so many frames; otherwise the prompt decides when, and any codebook ends it.
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

torch.set_num_threads(1)  # models this small lose time to more

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
"""The layout of the chat template that is published with the checkpoint, said again."""


_TRAINING_TEXT = (
    """The quick brown fox jumps over the lazy dog. She sells sea shells on the sea shore,
and the sun rises in the east. Audio is recorded from a quiet room. Generate audio following instruction.
"""
    + "She sells.\n\nAudio\n\n\n\n" * 9
)  # so that the layout's blank lines are tokens, as where it was trained


def write_tiny_tokenizer(
    folder: Path, *, first_id: int = PUBLISHED_FIRST_ID, without: Collection[str] = ()
) -> None:
    """A byte-level tokenizer with a few merges; its control tokens have ids from `first_id`."""
    trained = Tokenizer(models.BPE(ignore_merges=True))
    # Words, numbers, punctuation and runs of white space, apart as the published tokenizer has them.
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
    described["model"]["vocab"] |= ids  # the one way to leave a gap below them
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
    """The published configuration but for its sizes, with control tokens from `first_id`."""
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

    With `counting` every clip has exactly so many frames (at most `hidden_size` - 2); without, a
    clip of a few dozen frames ends where the prompt makes it, by any codebook; and not `ending`, none.
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
    """Weights large enough that what is said depends on all that was said before.

    `end` is how much an end code outweighs another, and so how soon a clip ends.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.normal_(std=1.5 / module.in_features**0.5)
        elif isinstance(module, torch.nn.Embedding):
            module.weight.normal_()
    head = model.audio_lm_head.weight.view(8, 1026, -1)
    head[:, 1024] = 0  # a begin code in the middle of a clip is no ending
    head[:, END] *= end


def _make_count(model: Any, frames: int) -> None:
    """Codebook 0 says 0, 1, 2 .. and then ends, whatever the layers make of the prompt."""
    size = model.config.hidden_size
    assert frames <= size - 2, "counting needs a dimension for each frame"
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
