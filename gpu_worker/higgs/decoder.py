"""Decoder: Higgs Audio V2's layers over a static cache, from transformers' own weights.

transformers' forward picks text and audio tokens apart with masks, which waits for the device in
every layer. Where the tokens are of one kind, or known run by run, none of that is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from gpu_worker.higgs.attention import Spans, attend_many, attend_one
from gpu_worker.higgs.delay_pattern import CODEBOOK_SIZE, CODEBOOKS


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Tokens of one kind in a row: text ids `[n]`, or audio codes `[n, 8]`."""

    tokens: torch.Tensor
    is_audio: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """What a layer applies to one kind of token, around the attention that all kinds share."""

    norm_in: torch.Tensor
    norm_out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    qkv: torch.Tensor
    out: torch.Tensor
    text: _Path
    audio: _Path

    @property
    def decode_bytes(self) -> int:
        return int(self.qkv.nbytes + self.out.nbytes + self.audio.gate_up.nbytes + self.audio.down.nbytes)


class Decoder:
    """The language model on one device; it keeps no state but its weights.

    Takes the weights out of `model` layer by layer, so that the device never holds them twice;
    the transformers model cannot be used afterwards.
    """

    def __init__(self, model: Any, *, device: torch.device, max_positions: int) -> None:
        config = model.config
        self.layers = config.num_hidden_layers
        self.kv_heads = config.num_key_value_heads
        self.heads = config.num_attention_heads
        self.head_dim = config.head_dim
        self.dtype: torch.dtype = model.audio_lm_head.weight.dtype
        self.device = device
        self._eps = config.rms_norm_eps

        body = model.model
        positions = torch.arange(max_positions)[None]
        like = torch.empty(0, dtype=self.dtype, device=body.rotary_emb.inv_freq.device)
        cos, sin = body.rotary_emb(like, positions.to(like.device))
        # Rotating a half turns its sign: fold the sign into the sines once.
        sign = torch.ones(self.head_dim, dtype=self.dtype, device=like.device)
        sign[: self.head_dim // 2] = -1
        self._cos = cos[0].to(device)
        self._sin = (sin[0] * sign).to(device)

        self._embed_text = body.embed_tokens.weight.detach().to(device)
        self._embed_audio = body.embed_audio_tokens.embed_audio_tokens.weight.detach().to(device)
        self._offsets = torch.arange(CODEBOOKS, device=device) * CODEBOOK_SIZE
        self._norm = body.norm.weight.detach().to(device)
        self._head = model.audio_lm_head.weight.detach().to(device)
        self._layers: list[_Layer] = []
        while len(body.layers):
            self._layers.append(_take_layer(body.layers.pop(0), device))

    @property
    def step_bytes(self) -> int:
        """Bytes of weights that one decode step reads: the audio path's."""
        return sum(layer.decode_bytes for layer in self._layers) + int(self._head.nbytes)

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in the cache."""
        return int(2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize)

    def new_cache(self, rows: int, length: int) -> torch.Tensor:
        """An empty cache `[layers, rows, length, 2, kv_heads, head_dim]`."""
        shape = (self.layers, rows, length, 2, self.kv_heads, self.head_dim)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def prefill(self, runs: Sequence[Run], start: int, cache: torch.Tensor) -> None:
        """Write one row's tokens into its `cache` `[layers, length, 2, kv_heads, head_dim]` from `start`.

        The next code is always the begin code, so that no logits are made.
        """
        hidden = torch.cat([self._embed(run) for run in runs])
        stop = start + len(hidden)
        cos, sin = self._cos[start:stop, None], self._sin[start:stop, None]
        lengths = [len(run.tokens) for run in runs]
        for layer, tokens in zip(self._layers, cache, strict=True):
            paths = [layer.audio if run.is_audio else layer.text for run in runs]
            parts = zip(hidden.split(lengths), paths, strict=True)
            normed = torch.cat([self._rms(part, path.norm_in) for part, path in parts])
            heads = self._rotated(layer, normed, cos, sin)
            query, keys_values = self._split(heads)
            tokens[start:stop] = keys_values
            mixed = attend_many(query, tokens[:stop])
            hidden = torch.addmm(hidden, mixed.flatten(1), layer.out.t())
            parts = zip(hidden.split(lengths), paths, strict=True)
            hidden = torch.cat([self._feed_forward(part, path) for part, path in parts])

    def next_logits(
        self, codes: torch.Tensor, position: torch.Tensor, lengths: torch.Tensor, cache: torch.Tensor
    ) -> torch.Tensor:
        """Feed every row its last `codes` [rows, 8] at `position` [rows]; float32 logits [rows, 8, 1026].

        `lengths` [rows] int32 is how much of each row's cache to read: `position + 1`, or less
        where nobody looks at the row's result.
        """
        rows = torch.arange(len(codes), device=self.device)
        spans = Spans.of(lengths, cache.shape[2])
        hidden = self._embed(Run(codes, is_audio=True))
        cos, sin = self._cos[position][:, None], self._sin[position][:, None]
        for layer, tokens in zip(self._layers, cache, strict=True):
            heads = self._rotated(layer, self._rms(hidden, layer.audio.norm_in), cos, sin)
            query, keys_values = self._split(heads)
            tokens.index_put_((rows, position), keys_values)
            mixed = attend_one(query, tokens, spans)
            hidden = torch.addmm(hidden, mixed.flatten(1), layer.out.t())
            hidden = self._feed_forward(hidden, layer.audio)
        logits = functional.linear(self._rms(hidden, self._norm), self._head)
        return logits.view(-1, CODEBOOKS, CODEBOOK_SIZE).float()

    def _embed(self, run: Run) -> torch.Tensor:
        if not run.is_audio:
            return functional.embedding(run.tokens, self._embed_text)
        return functional.embedding(run.tokens + self._offsets, self._embed_audio).sum(dim=-2)

    def _rms(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self._eps)

    def _rotated(
        self, layer: _Layer, normed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """Queries, keys and values `[n, heads + 2 kv_heads, head_dim]`, the first two with their position."""
        heads = functional.linear(normed, layer.qkv).view(len(normed), -1, self.head_dim)
        turning = heads[:, : self.heads + self.kv_heads]
        swapped = turning.roll(self.head_dim // 2, dims=-1)
        torch.addcmul(turning * cos, swapped, sin, out=turning)
        return heads

    def _split(self, heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query, keys_values = heads.split([self.heads, 2 * self.kv_heads], dim=1)
        return query, keys_values.unflatten(1, (2, self.kv_heads))

    def _feed_forward(self, hidden: torch.Tensor, path: _Path) -> torch.Tensor:
        gate, up = functional.linear(self._rms(hidden, path.norm_out), path.gate_up).chunk(2, dim=-1)
        return torch.addmm(hidden, functional.silu(gate) * up, path.down.t())


def _take_layer(layer: Any, device: torch.device) -> _Layer:
    attention = layer.self_attn
    return _Layer(
        qkv=_stack(device, attention.q_proj, attention.k_proj, attention.v_proj),
        out=_stack(device, attention.o_proj),
        text=_take_path(layer.input_layernorm, layer.post_attention_layernorm, layer.mlp, device),
        audio=_take_path(
            layer.audio_input_layernorm, layer.audio_post_attention_layernorm, layer.audio_mlp, device
        ),
    )


def _take_path(norm_in: Any, norm_out: Any, mlp: Any, device: torch.device) -> _Path:
    return _Path(
        norm_in=norm_in.weight.detach().to(device),
        norm_out=norm_out.weight.detach().to(device),
        gate_up=_stack(device, mlp.gate_proj, mlp.up_proj),
        down=_stack(device, mlp.down_proj),
    )


def _stack(device: torch.device, *linears: Any) -> torch.Tensor:
    """Weights that read the same input, one above the other: one matrix product in place of several."""
    return torch.cat([linear.weight.detach().to(device) for linear in linears])
