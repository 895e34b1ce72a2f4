"""Decode attention in Triton: a tile of 16 rows for the query heads that share a key head.

PyTorch's flash kernel pads a slot's one query to a tile of 64 or 128 rows. Here each slot's tokens
are split into equal parts by its own length, so that a slot's result does not depend on the others.
Triton comes with PyTorch for CUDA; this module is imported only where it is installed.
"""

# Triton compiles the kernels: their pointers have no Python type, their constants are in upper case.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpu_worker.higgs.attention import CacheLengths

MAX_SPLITS = 16
PROGRAMS_PER_MULTIPROCESSOR = 3
BLOCK = 64  # tokens that a program reads at a time
TILE = 16  # rows of a tile, the least that Triton multiplies
LOG2_E = 1.4426950408889634  # the kernels compute softmax with powers of two


@triton.jit  # type: ignore[untyped-decorator]  # Triton is not installed where types are checked
def _attend_split(
    query_pointer,
    cache_pointer,
    length_pointer,
    sum_pointer,
    peak_pointer,
    total_pointer,
    scale,
    query_stride,
    cache_stride,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    """Softmax's peak and total, and the weighted values, of one split of a slot's tokens for one key head."""
    slot, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.load(length_pointer + slot)
    split_tokens = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS) * BLOCK
    start = split * split_tokens
    stop = tl.minimum(start + split_tokens, length)

    head = tl.arange(0, TILE)
    dim = tl.arange(0, HEAD_DIM)
    is_head = head[:, None] < GROUP
    query_offset = (kv_head * GROUP + head[:, None]) * HEAD_DIM + dim[None, :]
    query = tl.load(query_pointer + slot * query_stride + query_offset, mask=is_head, other=0.0)

    peak = tl.full([TILE], -float("inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    weighted = tl.zeros([TILE, HEAD_DIM], tl.float32)
    token_stride = 2 * KV_HEADS * HEAD_DIM
    keys = cache_pointer + slot * cache_stride + kv_head * HEAD_DIM
    for block in range(start, stop, BLOCK):
        token = block + tl.arange(0, BLOCK)
        used = token < stop
        key = tl.load(keys + token[None, :] * token_stride + dim[:, None], mask=used[None, :], other=0.0)
        scores = tl.where(used[None, :], tl.dot(query, key) * scale, -float("inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp2(scores - new_peak[:, None])
        rescale = tl.exp2(peak - new_peak)
        values = keys + KV_HEADS * HEAD_DIM
        value = tl.load(values + token[:, None] * token_stride + dim[None, :], mask=used[:, None], other=0.0)
        weighted = weighted * rescale[:, None] + tl.dot(weights.to(value.dtype), value)
        total = total * rescale + tl.sum(weights, 1)
        peak = new_peak

    part = ((slot * KV_HEADS + kv_head) * SPLITS + split) * GROUP + head
    tl.store(sum_pointer + part[:, None] * HEAD_DIM + dim[None, :], weighted, mask=is_head)
    tl.store(peak_pointer + part, peak, mask=head < GROUP)
    tl.store(total_pointer + part, total, mask=head < GROUP)


@triton.jit  # type: ignore[untyped-decorator]  # Triton is not installed where types are checked
def _join_splits(
    sum_pointer,
    peak_pointer,
    total_pointer,
    out_pointer,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Attention of one query head, from the splits of its slot."""
    slot_head, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dim = tl.arange(0, HEAD_DIM)
    part = (slot_head * SPLITS + tl.arange(0, SPLITS)) * GROUP + head
    peak = tl.load(peak_pointer + part)
    weight = tl.exp2(peak - tl.max(peak, 0))  # 0 for a split without tokens
    total = tl.sum(tl.load(total_pointer + part) * weight, 0)
    weighted = tl.load(sum_pointer + part[:, None] * HEAD_DIM + dim[None, :])
    out = tl.sum(weighted * weight[:, None], 0) / total
    out_offset = (slot_head * GROUP + head) * HEAD_DIM + dim
    tl.store(out_pointer + out_offset, out.to(out_pointer.dtype.element_ty))


def choose_splits(slots: int, kv_heads: int, multiprocessors: int) -> int:
    """Splits of a slot's tokens: enough programs to fill the card, for as many slots as there are."""
    splits = 1
    while slots * kv_heads * splits < PROGRAMS_PER_MULTIPROCESSOR * multiprocessors and splits < MAX_SPLITS:
        splits *= 2
    return splits


def attend_decode(
    query: torch.Tensor, cache: torch.Tensor, lengths: CacheLengths, *, splits: int
) -> torch.Tensor:
    """As `gpu_worker.higgs.attention.attend_decode`; `splits` is a power of two.

    `query` [slots, heads, head_dim] may have any stride between slots; `cache` is one layer's, contiguous.
    """
    slots, heads, head_dim = query.shape
    kv_heads = cache.shape[3]
    group = heads // kv_heads
    assert query.stride(1) == head_dim
    assert cache.is_contiguous()

    def new(*shape: int) -> torch.Tensor:
        return torch.empty(slots, kv_heads, splits, group, *shape, dtype=torch.float32, device=query.device)

    weighted, peak, total = new(head_dim), new(), new()
    out = torch.empty(slots, heads, head_dim, dtype=query.dtype, device=query.device)
    _attend_split[(slots, kv_heads, splits)](
        query,
        cache,
        lengths.lengths,
        weighted,
        peak,
        total,
        head_dim**-0.5 * LOG2_E,
        query.stride(0),
        cache.stride(0),
        GROUP=group,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        SPLITS=splits,
        BLOCK=BLOCK,
        TILE=TILE,
        num_warps=4,
        num_stages=3,
    )
    _join_splits[(slots * kv_heads, group)](
        weighted, peak, total, out, GROUP=group, HEAD_DIM=head_dim, SPLITS=splits, num_warps=2
    )
    return out
