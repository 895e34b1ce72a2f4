"""Attention over a static cache in which every row has its own length.

The cache of one layer is `[rows, length, 2, kv_heads, head_dim]`: keys and values of a token side by
side, so that one write stores both. On CUDA the flash kernel reads each row's own length from the
device; it never sees a padded key, and what a row computes cannot hang on its neighbours' lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """How much of every row's cache to read, in the form that the device's kernel takes."""

    lengths: torch.Tensor  # [rows] int32
    queries: torch.Tensor  # [rows + 1] int32: where each row's one query begins
    keys: torch.Tensor  # [rows + 1] int32: where each row's cache begins
    capacity: int
    mask: torch.Tensor | None  # [rows, 1, 1, capacity], added, where no kernel takes lengths

    @classmethod
    def of(cls, lengths: torch.Tensor, capacity: int) -> Spans:
        """The first `lengths` [rows] int32 tokens of caches of `capacity`; made once for all layers."""
        queries = torch.arange(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
        mask = None
        if not _has_flash(lengths):
            unseen = torch.arange(capacity) >= lengths[:, None]
            mask = torch.zeros(unseen.shape).masked_fill(unseen, -torch.inf)[:, None, None, :]
        return cls(lengths, queries, queries * capacity, capacity, mask)


def attend_one(query: torch.Tensor, cache: torch.Tensor, spans: Spans) -> torch.Tensor:
    """One new token per row against what `spans` says of its cache.

    `query` [rows, heads, head_dim]; returns the same shape.
    """
    rows, heads, head_dim = query.shape
    kv_heads = cache.shape[3]
    if spans.mask is None:
        key, value = cache.view(rows * spans.capacity, 2, kv_heads, head_dim).unbind(1)
        out = varlen_attn(
            query,
            key,
            value,
            spans.queries,
            spans.keys,
            1,
            spans.capacity,
            enable_gqa=True,
            seqused_k=spans.lengths,
        )
        assert isinstance(out, torch.Tensor)
        return out
    # The query heads that share a key head stand where a sequence's queries would: nothing is repeated.
    grouped = query.view(rows, kv_heads, heads // kv_heads, head_dim)
    key, value = (half.transpose(1, 2) for half in cache.unbind(2))
    mixed = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=spans.mask)
    return mixed.reshape(rows, heads, head_dim)


def attend_many(query: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
    """The newest tokens of one row, causally, against all of its cache so far.

    `query` [new, heads, head_dim]; `cache` [tokens, 2, kv_heads, head_dim] ends with the new tokens.
    """
    new, tokens = len(query), len(cache)
    key, value = cache.unbind(1)
    if _has_flash(query):
        ends = torch.arange(2, dtype=torch.int32, device=query.device)
        causal = (-1, 0)  # aligned at the end: the last query sees every key
        out = varlen_attn(
            query, key, value, ends * new, ends * tokens, new, tokens, window_size=causal, enable_gqa=True
        )
        assert isinstance(out, torch.Tensor)
        return out
    seen = torch.ones(new, tokens, dtype=torch.bool, device=query.device).tril(tokens - new)
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)
    return mixed[0].transpose(0, 1)


def _has_flash(tensor: torch.Tensor) -> bool:
    return bool(tensor.is_cuda)
