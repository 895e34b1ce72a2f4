"""Attention over the static cache: the same numbers by every way that a device may take."""

from __future__ import annotations

import pytest
import torch

from gpu_worker.higgs import attention
from gpu_worker.higgs.attention import Spans, attend_many, attend_one

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 16


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Attention spelled out, `[queries, heads, head_dim]` against `[keys, kv_heads, head_dim]`."""
    group = query.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(group, dim=1) for part in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", query, keys) / query.shape[2] ** 0.5
    if causal:  # the last query sees every key
        late = torch.arange(len(keys)) > torch.arange(len(query))[:, None] + len(keys) - len(query)
        scores = scores.masked_fill(late, -torch.inf)
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
    """`torch.nn.attention.varlen.varlen_attn` as its documentation has it, on the CPU."""
    assert enable_gqa
    assert {one.dtype for one in (cu_seq_q, cu_seq_k)} == {torch.int32}
    assert seqused_k is None or seqused_k.dtype == torch.int32
    assert int(cu_seq_q.diff().max()) == max_q
    assert int(cu_seq_k.diff().max()) == max_k
    mixed = []
    for row in range(len(cu_seq_q) - 1):
        queries = query[cu_seq_q[row] : cu_seq_q[row + 1]]
        start, stop = int(cu_seq_k[row]), int(cu_seq_k[row + 1])
        if seqused_k is not None:
            stop = start + int(seqused_k[row])
        mixed.append(plain(queries, key[start:stop], value[start:stop], causal=window_size == (-1, 0)))
    return torch.cat(mixed)


@pytest.fixture(params=["mask", "flash"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way the CPU takes, and that of a CUDA device with what its kernel is documented to do."""
    if request.param == "flash":
        monkeypatch.setattr(attention, "_has_flash", lambda _: True)
        monkeypatch.setattr(attention, "varlen_attn", flash)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_each_row_attends_to_as_much_of_its_cache_as_it_has() -> None:
    """What lies behind a row's length, or in another row, is not seen."""
    query, cache = random(4, HEADS, HEAD_DIM), random(4, 20, 2, KV_HEADS, HEAD_DIM)
    lengths = [1, 7, 19, 20]
    expected = [
        plain(query[row, None], cache[row, :n, 0], cache[row, :n, 1], causal=False)
        for row, n in enumerate(lengths)
    ]
    for row, n in enumerate(lengths):
        cache[row, n:] = 1e4  # an old request's leavings
    spans = Spans.of(torch.tensor(lengths, dtype=torch.int32), 20)
    torch.testing.assert_close(attend_one(query, cache, spans), torch.cat(expected))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("new", [1, 5, 12])
def test_new_tokens_see_the_prefix_and_each_other_in_order(new: int) -> None:
    """Behind a prefix every new token sees all of it, itself, and the new ones before."""
    query, cache = random(new, HEADS, HEAD_DIM), random(12, 2, KV_HEADS, HEAD_DIM)
    expected = plain(query, cache[:, 0], cache[:, 1], causal=True)
    torch.testing.assert_close(attend_many(query, cache), expected)
