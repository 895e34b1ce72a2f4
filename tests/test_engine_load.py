"""Loading the Higgs engine: it warms up before the first request, or says what does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.engines import OPTIONS, load_engine

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.higgs.codec import Codec
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.engine import HiggsEngine
from gpu_worker.higgs.model_runner import ModelRunner


def test_a_loaded_engine_has_synthesized_once(
    model_folder: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A voice is encoded, prefilled and decoded, a clip's waveform made; nothing of it stays in a cache."""
    calls: list[str] = []
    for owner, name in (
        (Codec, "encode"),
        (Codec, "decode"),
        (Decoder, "prefill"),
        (Decoder, "decode"),
    ):
        label = f"{owner.__name__}.{name}"
        monkeypatch.setattr(owner, name, _recorded(calls, label, getattr(owner, name)))
    loaded = load_engine(model_folder, codec_folder)
    assert list(dict.fromkeys(calls)) == ["Codec.encode", "Decoder.prefill", "Decoder.decode", "Codec.decode"]
    assert len(loaded.runner.prefixes) == 0
    assert loaded.scheduler.idle
    asyncio.run(loaded.engine.drain())


def test_the_warm_up_meets_the_largest_voice_and_batch(
    model_folder: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: 30 s of voice and a full batch of windows, so that no request meets the peak first."""
    sizes: dict[str, int] = {}
    encode, decode, prefill = Codec.encode, Codec._decode, Decoder.prefill

    def record_encode(codec: Codec, waveform: Any) -> Any:
        sizes["seconds"] = len(waveform) // 24_000
        return encode(codec, waveform)

    def record_decode(codec: Codec, codes: Any) -> Any:
        sizes["windows"], sizes["frames"] = len(codes), codes.shape[2]
        return decode(codec, codes)

    def record_prefill(decoder: Decoder, parts: Any, start: int, cache: Any) -> None:
        sizes["tokens"] = max(sizes.get("tokens", 0), start + sum(len(part.tokens) for part in parts))
        prefill(decoder, parts, start, cache)

    monkeypatch.setattr(Codec, "encode", record_encode)
    monkeypatch.setattr(Codec, "_decode", record_decode)
    monkeypatch.setattr(Decoder, "prefill", record_prefill)
    loaded = load_engine(model_folder, codec_folder, replace(OPTIONS, warm_up_at_peak=True))
    asyncio.run(loaded.engine.drain())
    assert (sizes["seconds"], sizes["windows"], sizes["frames"]) == (30, 16, 84)
    assert OPTIONS.slot_length is not None
    assert OPTIONS.slot_length // 2 < sizes["tokens"] < OPTIONS.slot_length - 9


def _recorded(calls: list[str], label: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def recorded(*arguments: Any) -> Any:
        calls.append(label)
        return method(*arguments)

    return recorded


@pytest.mark.parametrize("where", ["run", "__init__"])
def test_slots_that_do_not_fit_fail_the_load_with_their_sizes(
    where: str, model_folder: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the cache does not fit, or the first step beside it: the error names slots and length."""

    def out_of_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ModelRunner, where, out_of_memory)
    with pytest.raises(ModelError, match="3 slots of 384 tokens do not fit into the memory of cpu"):
        HiggsEngine.load(model_folder, codec_folder, model="m", device="cpu", options=OPTIONS)
