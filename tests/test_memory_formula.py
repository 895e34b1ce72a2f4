"""The memory formula's terms, against the allocations of the published sizes added up on the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_worker.higgs import attention
from gpu_worker.higgs.capacity import COMPUTED_WORK_BYTES, MemoryTerms, weight_bytes
from gpu_worker.higgs.codec import WINDOW_FRAMES, WINDOWS_PER_BATCH, tokenizer_classes
from gpu_worker.higgs.decoder import Decoder, PrefillPart
from gpu_worker.higgs.slot_state import SlotState

META = torch.device("meta")
SLOTS, SLOT_LENGTH = 32, 2304


class Allocations(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """Adds up the bytes that operations allocate, until they are freed; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        given = {_storage(tensor) for tensor in _tensors(args)}
        for tensor in _tensors([out]):
            if _storage(tensor) not in given - self._users.keys():  # a view of what was there before
                self._count(tensor)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        key, size = _storage(tensor), tensor.untyped_storage().nbytes()
        if key not in self._users:
            self._users[key] = 0
            self.live += size
            self.peak = max(self.peak, self.live)
        self._users[key] += 1
        weakref.finalize(tensor, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.live -= size


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@pytest.fixture
def language_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The published model on the meta device, as it is loaded: bfloat16, without the text head."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from random_model import model_config
    from transformers import HiggsAudioV2ForConditionalGeneration

    torch.set_default_dtype(torch.bfloat16)
    try:
        with META:
            return HiggsAudioV2ForConditionalGeneration(model_config("full"))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The published codec on the meta device."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from random_model import PUBLISHED_CODEC

    config_class, model_class = tokenizer_classes()
    rates = {"sample_rate": 24_000, "semantic_sample_rate": 16_000, "target_bandwidths": [0.5, 1, 1.5, 2]}
    with META:
        return model_class(config_class(**rates, codebook_size=1024, **PUBLISHED_CODEC)).eval()


def test_weights_and_cache_are_what_the_formula_says(language_model: Any, codec: Any) -> None:
    """The decoder's tensors, the cache and the slots' state, within one part in a hundred."""
    weights, codec_weights = weight_bytes(language_model), weight_bytes(codec)
    decoder = Decoder(language_model, device=META, max_positions=SLOT_LENGTH)
    with Allocations() as made:
        cache = decoder.new_cache(SLOTS, SLOT_LENGTH)
        state = SlotState.empty(SLOTS, SLOT_LENGTH, META)
    terms = MemoryTerms(weights, codec_weights, prefix_cache=0, token=decoder.token_bytes)
    matrices = sum(
        tensor.nbytes
        for layer in decoder.layers
        for tensor in (
            layer.qkv,
            layer.out,
            *(
                part
                for kind in (layer.text, layer.audio)
                for part in (kind.attention_norm, kind.mlp_norm, kind.gate_up, kind.down)
            ),
        )
    )
    others = [decoder._text_embedding, decoder._audio_embedding, decoder._norm, decoder._head]
    assert matrices + sum(tensor.nbytes for tensor in others) == pytest.approx(weights, rel=0.01)
    assert made.live == pytest.approx(SLOTS * SLOT_LENGTH * terms.token, rel=0.01)
    assert weights == pytest.approx(10.75e9, rel=0.01)
    assert codec_weights == pytest.approx(0.80e9, rel=0.01)
    assert terms.needed(SLOTS, SLOT_LENGTH) < 24e9
    assert (len(cache), len(state.step)) == (28, SLOTS)


def test_the_work_at_its_peak_fits_into_its_term(
    language_model: Any, codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefill of a whole slot or a step of 128, encoding 30 s, and decoding a full batch of windows."""
    monkeypatch.setattr(attention, "has_flash_kernel", lambda _: True)
    decoder = Decoder(language_model, device=META, max_positions=SLOT_LENGTH)
    peaks: dict[str, int] = {}
    with torch.inference_mode():
        slot_cache = decoder.new_cache(1, SLOT_LENGTH)[:, 0]
        text = PrefillPart(torch.empty(SLOT_LENGTH, dtype=torch.int64, device=META), is_audio=False)
        with Allocations() as made:
            decoder.prefill([text], 0, slot_cache)
        peaks["prefill"] = made.peak
        cache, state = decoder.new_cache(128, SLOT_LENGTH), SlotState.empty(128, SLOT_LENGTH, META)
        with Allocations() as made:
            active = state.active()
            lengths = torch.empty(128, dtype=torch.int32, device=META)
            logits = decoder.decode(state.last_codes, state.step, lengths, cache)
            state.advance(logits, active)
        peaks["step"] = made.peak
        with Allocations() as made:
            codec.acoustic_encoder(torch.empty(1, 1, 30 * 24_000, device=META))
        peaks["encode, acoustic"] = made.peak
        with Allocations() as made:
            codec.semantic_model(torch.empty(1, 30 * 16_000, device=META), output_hidden_states=True)
        peaks["encode, semantic"] = made.peak
        codes = torch.empty(WINDOWS_PER_BATCH, 8, WINDOW_FRAMES, dtype=torch.int64, device=META)
        with Allocations() as made:
            codec.decode(codes, return_dict=False)
        peaks["decode windows"] = made.peak
    steps = max(peaks["prefill"], peaks["step"])
    encode = max(peaks["encode, acoustic"], peaks["encode, semantic"])
    # The recorded windows keep their memory, so that an encoding does not find room in it.
    work = steps + encode + peaks["decode windows"]
    assert 0.9 * COMPUTED_WORK_BYTES < work < COMPUTED_WORK_BYTES, peaks
