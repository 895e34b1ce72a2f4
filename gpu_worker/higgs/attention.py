"""Attention over a static cache in which every slot has its own length.

One layer's cache is `[slots, slot_length, 2, kv_heads, head_dim]`: a token's keys and values side
by side, so that one write stores both. On CUDA the flash kernel reads each slot's length from the
device: it never reads padding, and a slot's result does not depend on the other slots' lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class CacheLengths:
    """How many tokens of its cache each slot reads, in the form that the device's kernel takes."""

    lengths: torch.Tensor  # [slots] int32
    query_starts: torch.Tensor  # [slots + 1] int32: offset of each slot's one query
    key_starts: torch.Tensor  # [slots + 1] int32: offset of each slot's cache
    slot_length: int
    mask: torch.Tensor | None  # [slots, 1, 1, slot_length], added to scores; None for the flash kernel

    @classmethod
    def of(cls, lengths: torch.Tensor, slot_length: int) -> CacheLengths:
        """From `lengths` [slots] int32; made once a step, for all layers."""
        query_starts = torch.arange(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
        mask = None
        if not has_flash_kernel(lengths):
            padding = torch.arange(slot_length) >= lengths[:, None]
            mask = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)[:, None, None, :]
        return cls(lengths, query_starts, query_starts * slot_length, slot_length, mask)


def attend_decode(
    query: torch.Tensor, cache: torch.Tensor, lengths: CacheLengths, *, splits: int | None = None
) -> torch.Tensor:
    """Attention of one new token in each slot to the slot's cache.

    `query` [slots, heads, head_dim]; `cache` as above; returns the shape of `query`. `splits` of a
    slot's tokens in the flash kernel, None: as it chooses; the CPU has none.
    """
    slots, heads, head_dim = query.shape
    kv_heads = cache.shape[3]
    if lengths.mask is None:
        key, value = cache.view(slots * lengths.slot_length, 2, kv_heads, head_dim).unbind(1)
        starts, longest = (lengths.query_starts, lengths.key_starts), (1, lengths.slot_length)
        options = {} if splits is None else {"num_splits": splits}
        return _flash(
            query, key, value, *starts, *longest, causal=False, seqused_k=lengths.lengths, **options
        )
    # Query heads that share a key head take the place of a sequence's queries: no key is repeated.
    grouped = query.view(slots, kv_heads, heads // kv_heads, head_dim)
    key, value = (half.transpose(1, 2) for half in cache.unbind(2))
    mixed = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=lengths.mask)
    return mixed.reshape(slots, heads, head_dim)


def attend_prefill(query: torch.Tensor, cache: torch.Tensor) -> torch.Tensor:
    """Causal attention of one slot's new tokens to all of its cache so far.

    `query` [new, heads, head_dim]; `cache` [tokens, 2, kv_heads, head_dim], the new tokens last;
    returns the shape of `query`.
    """
    new, tokens = len(query), len(cache)
    key, value = cache.unbind(1)
    if has_flash_kernel(query):
        starts = torch.arange(2, dtype=torch.int32, device=query.device)
        return _flash(query, key, value, starts * new, starts * tokens, new, tokens, causal=True)
    visible = torch.ones(new, tokens, dtype=torch.bool, device=query.device).tril(tokens - new)
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, enable_gqa=True)
    return mixed[0].transpose(0, 1)


def has_flash_kernel(tensor: torch.Tensor) -> bool:
    """Whether PyTorch has its flash attention kernel on the tensor's device."""
    return bool(tensor.is_cuda)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    most_queries: int,
    most_keys: int,
    *,
    causal: bool,
    **options: torch.Tensor | int,
) -> torch.Tensor:
    """PyTorch's flash attention over sequences of several lengths; causal: the last query sees every key.

    The operator below `torch.nn.attention.varlen.varlen_attn`, which is the same in PyTorch 2.11 to
    2.13: 2.11's function takes neither used lengths nor grouped heads, and later ones launch an
    unneeded fill in each call.
    """
    out, *_ = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 -- no public name takes used lengths in 2.11
        query,
        key,
        value,
        query_starts,
        key_starts,
        most_queries,
        most_keys,
        0.0,  # no dropout
        causal,
        False,  # no debug mask
        **options,
    )
    assert isinstance(out, torch.Tensor)
    return out
