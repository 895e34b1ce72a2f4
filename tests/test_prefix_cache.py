"""Prefix cache: a voice's prefix is prefilled once, and the cache stays within its bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.engines import (
    CONVERSATIONS,
    OPTIONS,
    LoadedEngine,
    assert_same_codes,
    failing_loader,
    open_engine,
    request_of,
    synthesize,
)

from gpu_worker.higgs.prefix_cache import PrefixCache


async def test_the_second_chunk_in_a_voice_prefills_its_own_text_only(
    shared: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prefix comes from the cache, and the voice sample is not loaded again."""
    shared.runner.clear_prefixes()
    decoder = shared.runner.decoder
    prefilled: list[int] = []
    prefill = decoder.prefill

    def counted(parts: Any, start: int, slot_cache: Any) -> None:
        prefilled.append(sum(len(part.tokens) for part in parts))
        prefill(parts, start, slot_cache)

    monkeypatch.setattr(decoder, "prefill", counted)
    first = await synthesize(shared.engine, CONVERSATIONS[1])
    request, _ = request_of(CONVERSATIONS[5])
    second = await shared.engine.synthesize_traced(request, failing_loader)
    assert sum(prefilled[:2]) == len(first.prompt_ids)
    assert len(prefilled) == 3
    assert prefilled[2] == len(second.prompt_ids) - prefilled[0]


async def test_a_prefix_larger_than_the_cache_is_not_kept(model_folder: Path, codec_folder: Path) -> None:
    """Without room for a prefix every chunk is prefilled whole, and has the same codes."""
    options = replace(OPTIONS, prefix_cache_bytes=1)
    async with open_engine(model_folder, codec_folder, options) as loaded:
        clips = [await synthesize(loaded.engine, CONVERSATIONS[n]) for n in (1, 5, 1)]
        assert len(loaded.runner.prefixes) == 0
    assert_same_codes([clips[0]], [clips[2]])


def test_the_cache_stays_within_its_bytes() -> None:
    """The entry used longest ago is removed; stored entries are copies."""
    entry = torch.ones(10)  # 40 bytes
    cache = PrefixCache(100)
    for key in (b"a", b"b"):
        cache.put(key, entry)
    assert cache.get(b"a") is not None
    cache.put(b"c", entry)
    cache.put(b"larger than all", torch.ones(30))
    entry.zero_()
    kept = [key for key in (b"a", b"b", b"c", b"larger than all") if cache.get(key) is not None]
    assert kept == [b"a", b"c"]
    assert cache.get(b"a").sum() == 10  # type: ignore[union-attr]  # it is kept, see above
