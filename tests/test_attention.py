"""Attention over the static cache: the same result from the CPU's path and from the flash kernel's."""

from __future__ import annotations

import pytest
import torch

from gpu_worker.higgs import attention
from gpu_worker.higgs.attention import CacheLengths, attend_decode, attend_prefill

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 16


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Attention in plain operations: `query` [queries, heads, dim], keys and values [keys, kv_heads, dim]."""
    group = query.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", query, keys) / query.shape[2] ** 0.5
    if causal:  # the last query attends to every key
        later = torch.arange(len(keys)) > torch.arange(len(query))[:, None] + len(keys) - len(query)
        scores = scores.masked_fill(later, -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)


def flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: torch.Tensor | None = None,
) -> torch.Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` is documented to do, on the CPU."""
    assert enable_gqa
    assert {one.dtype for one in (cu_seq_q, cu_seq_k)} == {torch.int32}
    assert seqused_k is None or seqused_k.dtype == torch.int32
    assert int(cu_seq_q.diff().max()) == max_q
    assert int(cu_seq_k.diff().max()) == max_k
    mixed = []
    for sequence in range(len(cu_seq_q) - 1):
        queries = query[cu_seq_q[sequence] : cu_seq_q[sequence + 1]]
        start, stop = int(cu_seq_k[sequence]), int(cu_seq_k[sequence + 1])
        if seqused_k is not None:
            stop = start + int(seqused_k[sequence])
        mixed.append(plain(queries, key[start:stop], value[start:stop], causal=window_size == (-1, 0)))
    return torch.cat(mixed)


@pytest.fixture(params=["mask", "flash"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path that the CPU takes, and that of a CUDA device with the documented kernel in its place."""
    if request.param == "flash":
        monkeypatch.setattr(attention, "has_flash_kernel", lambda _: True)
        monkeypatch.setattr(attention, "varlen_attn", flash)
    return str(request.param)


@pytest.mark.usefixtures("path")
def test_a_slot_attends_to_its_own_tokens_only() -> None:
    """Tokens past a slot's length, and tokens of other slots, do not count."""
    query, cache = random(4, HEADS, HEAD_DIM), random(4, 20, 2, KV_HEADS, HEAD_DIM)
    lengths = [1, 7, 19, 20]
    expected = [
        plain(query[slot, None], cache[slot, :n, 0], cache[slot, :n, 1], causal=False)
        for slot, n in enumerate(lengths)
    ]
    for slot, n in enumerate(lengths):
        cache[slot, n:] = 1e4  # left by an earlier request
    cache_lengths = CacheLengths.of(torch.tensor(lengths, dtype=torch.int32), 20)
    torch.testing.assert_close(attend_decode(query, cache, cache_lengths), torch.cat(expected))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("new", [1, 5, 12])
def test_new_tokens_attend_causally_to_the_prefix_and_each_other(new: int) -> None:
    """Each new token attends to the whole prefix, to the new tokens before it and to itself."""
    query, cache = random(new, HEADS, HEAD_DIM), random(12, 2, KV_HEADS, HEAD_DIM)
    expected = plain(query, cache[:, 0], cache[:, 1], causal=True)
    torch.testing.assert_close(attend_prefill(query, cache), expected)
