"""Decoder: Higgs Audio V2's transformer layers over a static cache, with transformers' weights.

transformers' forward separates text and audio tokens by masks, which waits for the device in
every layer. Here a prompt's parts say which tokens are audio, and a decode step is all audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from gpu_worker.higgs.attention import CacheLengths, attend_decode, attend_prefill
from gpu_worker.higgs.attention_choice import Attend, AttentionShape
from gpu_worker.higgs.delay_pattern import CODEBOOK_SIZE, CODEBOOKS


@dataclass(frozen=True, slots=True, eq=False)
class PrefillPart:
    """A prompt's neighbouring tokens of one kind, on the device: text ids `[n]`, or audio codes `[n, 8]`."""

    tokens: torch.Tensor
    is_audio: bool


@dataclass(frozen=True, slots=True, eq=False)
class TokenWeights:
    """A layer's weights for one kind of token, text or audio; attention is common to both kinds."""

    attention_norm: torch.Tensor  # [hidden]
    mlp_norm: torch.Tensor  # [hidden]
    gate_up: torch.Tensor  # [2 intermediate, hidden]
    down: torch.Tensor  # [hidden, intermediate]


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """A layer's weights; `qkv` [(heads + 2 kv_heads) head_dim, hidden], `out` [hidden, heads head_dim]."""

    qkv: torch.Tensor
    out: torch.Tensor
    text: TokenWeights
    audio: TokenWeights

    @property
    def decode_bytes(self) -> int:
        """Bytes of the matrices that a decode step reads."""
        return int(self.qkv.nbytes + self.out.nbytes + self.audio.gate_up.nbytes + self.audio.down.nbytes)


class Decoder:
    """The language model on one device; it has no state but its weights.

    Takes the weights out of `model` layer by layer, so that the device never holds them twice;
    the transformers model cannot be used afterwards. `max_positions` is the slot length.
    """

    def __init__(self, model: Any, *, device: torch.device, max_positions: int) -> None:
        config = model.config
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
        # Rotary embedding negates the half that it swaps to the front: the sign is folded into the sines.
        sign = torch.ones(self.head_dim, dtype=self.dtype, device=like.device)
        sign[: self.head_dim // 2] = -1
        self._cos = cos[0].to(device)
        self._sin = (sin[0] * sign).to(device)

        self._text_embedding = body.embed_tokens.weight.detach().to(device)
        self._audio_embedding = body.embed_audio_tokens.embed_audio_tokens.weight.detach().to(device)
        self._codebook_offsets = torch.arange(CODEBOOKS, device=device) * CODEBOOK_SIZE
        self._norm = body.norm.weight.detach().to(device)
        self._head = model.audio_lm_head.weight.detach().to(device)
        self.layers: list[LayerWeights] = []
        while len(body.layers):
            self.layers.append(_take_layer(body.layers.pop(0), device))

    @property
    def step_bytes(self) -> int:
        """Bytes of weights that one decode step reads, whatever the number of slots."""
        return sum(layer.decode_bytes for layer in self.layers) + int(self._head.nbytes)

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in the cache."""
        return int(2 * len(self.layers) * self.kv_heads * self.head_dim * self.dtype.itemsize)

    def attention_shape(self, slots: int) -> AttentionShape:
        """The sizes of the attention of a decode step with `slots` slots."""
        return AttentionShape(slots, self.heads, self.kv_heads, self.head_dim, self.dtype)

    def new_cache(self, slots: int, slot_length: int) -> torch.Tensor:
        """An empty cache `[layers, slots, slot_length, 2, kv_heads, head_dim]`."""
        shape = (len(self.layers), slots, slot_length, 2, self.kv_heads, self.head_dim)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def prefill(self, parts: Sequence[PrefillPart], start: int, slot_cache: torch.Tensor) -> None:
        """Write the keys and values of `parts` into one slot's cache, from token `start`.

        `slot_cache` [layers, slot_length, 2, kv_heads, head_dim]. Computes no logits: the code
        after a prompt is always the begin code.
        """
        hidden = torch.cat([self._embed(part) for part in parts])
        stop = start + len(hidden)
        cos, sin = self._cos[start:stop, None], self._sin[start:stop, None]
        lengths = [len(part.tokens) for part in parts]
        for layer, layer_cache in zip(self.layers, slot_cache, strict=True):
            weights = [layer.audio if part.is_audio else layer.text for part in parts]
            pairs = zip(hidden.split(lengths), weights, strict=True)
            normed = torch.cat([self._rms_norm(part, kind.attention_norm) for part, kind in pairs])
            query, keys_values = self._project(layer, normed, cos, sin)
            layer_cache[start:stop] = keys_values
            mixed = attend_prefill(query, layer_cache[:stop])
            hidden = torch.addmm(hidden, mixed.flatten(1), layer.out.t())
            pairs = zip(hidden.split(lengths), weights, strict=True)
            hidden = torch.cat([self._feed_forward(part, kind) for part, kind in pairs])

    def decode(
        self,
        codes: torch.Tensor,
        position: torch.Tensor,
        lengths: torch.Tensor,
        cache: torch.Tensor,
        attend: Attend = attend_decode,
    ) -> torch.Tensor:
        """Feed every slot its last `codes` [slots, 8] at `position` [slots]; float32 logits [slots, 8, 1026].

        `lengths` [slots] int32 is how many tokens of its cache a slot reads: `position + 1`, or
        fewer for a slot whose logits are not used. `cache` as `new_cache` makes it; `attend` is the
        attention's kernel.
        """
        slots = torch.arange(len(codes), device=self.device)
        cache_lengths = CacheLengths.of(lengths, cache.shape[2])
        hidden = self._embed_codes(codes)
        cos, sin = self._cos[position][:, None], self._sin[position][:, None]
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            normed = self._rms_norm(hidden, layer.audio.attention_norm)
            query, keys_values = self._project(layer, normed, cos, sin)
            layer_cache.index_put_((slots, position), keys_values)
            mixed = attend(query, layer_cache, cache_lengths)
            hidden = torch.addmm(hidden, mixed.flatten(1), layer.out.t())
            hidden = self._feed_forward(hidden, layer.audio)
        logits = functional.linear(self._rms_norm(hidden, self._norm), self._head)
        return logits.view(-1, CODEBOOKS, CODEBOOK_SIZE).float()

    def _embed(self, part: PrefillPart) -> torch.Tensor:
        if part.is_audio:
            return self._embed_codes(part.tokens)
        return functional.embedding(part.tokens, self._text_embedding)

    def _embed_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """`[n, hidden]`: the sum of the eight codebooks' embeddings of `codes` [n, 8]."""
        return functional.embedding(codes + self._codebook_offsets, self._audio_embedding).sum(dim=-2)

    def _rms_norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self._eps)

    def _project(
        self, layer: LayerWeights, normed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Project `normed` [n, hidden] to attention's inputs, with positions applied to queries and keys.

        Returns queries [n, heads, head_dim], and keys and values [n, 2, kv_heads, head_dim].
        """
        heads = functional.linear(normed, layer.qkv).view(len(normed), -1, self.head_dim)
        rotated = heads[:, : self.heads + self.kv_heads]
        swapped_halves = rotated.roll(self.head_dim // 2, dims=-1)
        torch.addcmul(rotated * cos, swapped_halves, sin, out=rotated)
        query, keys_values = heads.split([self.heads, 2 * self.kv_heads], dim=1)
        return query, keys_values.unflatten(1, (2, self.kv_heads))

    def _feed_forward(self, hidden: torch.Tensor, weights: TokenWeights) -> torch.Tensor:
        normed = self._rms_norm(hidden, weights.mlp_norm)
        gate, up = functional.linear(normed, weights.gate_up).chunk(2, dim=-1)
        return torch.addmm(hidden, functional.silu(gate) * up, weights.down.t())


def _take_layer(layer: Any, device: torch.device) -> LayerWeights:
    attention = layer.self_attn
    return LayerWeights(
        qkv=_stack(device, attention.q_proj, attention.k_proj, attention.v_proj),
        out=_stack(device, attention.o_proj),
        text=_take_token_weights(layer.input_layernorm, layer.post_attention_layernorm, layer.mlp, device),
        audio=_take_token_weights(
            layer.audio_input_layernorm, layer.audio_post_attention_layernorm, layer.audio_mlp, device
        ),
    )


def _take_token_weights(attention_norm: Any, mlp_norm: Any, mlp: Any, device: torch.device) -> TokenWeights:
    return TokenWeights(
        attention_norm=attention_norm.weight.detach().to(device),
        mlp_norm=mlp_norm.weight.detach().to(device),
        gate_up=_stack(device, mlp.gate_proj, mlp.up_proj),
        down=_stack(device, mlp.down_proj),
    )


def _stack(device: torch.device, *linears: Any) -> torch.Tensor:
    """Weights that multiply the same input as one matrix: one product in place of several."""
    return torch.cat([linear.weight.detach().to(device) for linear in linears])
