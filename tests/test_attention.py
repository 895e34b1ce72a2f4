"""Attention over the static cache: the same result from the CPU's path and from the flash kernel's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

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
    cum_seq_q: torch.Tensor,
    cum_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    seqused_k: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    """What `aten::_flash_attention_forward` does, on the CPU, with the arguments that torch 2.11 gives it."""
    assert {one.dtype for one in (cum_seq_q, cum_seq_k)} == {torch.int32}
    assert seqused_k is None or seqused_k.dtype == torch.int32
    assert int(cum_seq_q.diff().max()) == max_q
    assert int(cum_seq_k.diff().max()) == max_k
    assert (dropout_p, return_debug_mask) == (0, False)
    assert {scale, window_size_left, window_size_right, alibi_slopes} == {None}
    mixed = []
    for sequence in range(len(cum_seq_q) - 1):
        queries = query[cum_seq_q[sequence] : cum_seq_q[sequence + 1]]
        start, stop = int(cum_seq_k[sequence]), int(cum_seq_k[sequence + 1])
        if seqused_k is not None:
            stop = start + int(seqused_k[sequence])
        mixed.append(plain(queries, key[start:stop], value[start:stop], causal=is_causal))
    unused = torch.empty(0)
    return torch.cat(mixed), unused, unused, unused, unused


@pytest.fixture(params=["mask", "flash"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path that the CPU takes, and that of a CUDA device with the documented kernel in its place."""
    if request.param == "flash":
        monkeypatch.setattr(attention, "has_flash_kernel", lambda _: True)
        monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash)
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


def test_the_flash_kernel_is_the_only_operation_of_decode_attention() -> None:
    """On CUDA tensors a layer's attention launches one kernel: no fill, no copy beside it."""
    launched: list[str] = []

    class Recorder(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not func.is_view:
                launched.append(func.overloadpacket.__name__)
            return func(*args, **kwargs or {})

    with FakeTensorMode(), torch.inference_mode():
        query = torch.empty(3, 24, 128, dtype=torch.bfloat16, device="cuda")
        cache = torch.empty(3, 512, 2, 8, 128, dtype=torch.bfloat16, device="cuda")
        lengths = CacheLengths.of(torch.empty(3, dtype=torch.int32, device="cuda"), 512)
        with Recorder():
            assert attend_decode(query, cache, lengths).shape == query.shape
    assert launched == ["_flash_attention_forward"]
