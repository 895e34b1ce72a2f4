"""Attention over a static cache in which every row has its own length.

The cache of one layer is `[rows, length, 2, kv_heads, head_dim]`: keys and values of a token side by
side, so that one write stores both. On CUDA the flash kernel reads each row's own length from the
device; it never sees a padded key, and what a row computes cannot hang on its neighbours' lengths.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn


def attend_one(query: torch.Tensor, cache: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """One new token per row against the first `lengths` [rows] int32 tokens of its cache.

    `query` [rows, heads, head_dim]; returns the same shape.
    """
    rows, heads, head_dim = query.shape
    capacity, kv_heads = cache.shape[1], cache.shape[3]
    if query.is_cuda:
        starts = torch.arange(rows + 1, dtype=torch.int32, device=query.device)
        flat = cache.view(rows * capacity, 2, kv_heads, head_dim)
        key, value = flat.unbind(1)
        out = varlen_attn(
            query, key, value, starts, starts * capacity, 1, capacity, enable_gqa=True, seqused_k=lengths
        )
        assert isinstance(out, torch.Tensor)
        return out
    # The query heads that share a key head stand where a sequence's queries would: nothing is repeated.
    grouped = query.view(rows, kv_heads, heads // kv_heads, head_dim)
    key, value = (half.transpose(1, 2) for half in cache.unbind(2))
    seen = torch.arange(capacity, device=query.device) < lengths[:, None]
    mixed = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=seen[:, None, None, :])
    return mixed.reshape(rows, heads, head_dim)


def attend_many(query: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
    """The newest tokens of one row, causally, against all of its cache so far.

    `query` [new, heads, head_dim]; `cache` [tokens, 2, kv_heads, head_dim] ends with the new tokens.
    """
    new, tokens = len(query), len(cache)
    key, value = cache.unbind(1)
    if query.is_cuda:
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
