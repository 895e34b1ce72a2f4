"""The codec on a tiny checkpoint: real model code, real loading, random weights."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_codec import write_tiny_codec

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.engine_protocol import VoiceSample, Waveform
from gpu_worker.higgs.codec import HOP, MARGIN, WINDOW, Codec, windows
from gpu_worker.higgs.delay_pattern import Codes
from gpu_worker.higgs.torchaudio_shim import resample_like_torchaudio
from gpu_worker.higgs.voice_cache import VoiceCache


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_codec(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> Codec:
    return Codec.load(folder, "cpu")


def _codes(frames: int, seed: int = 0) -> Codes:
    return np.random.default_rng([seed, frames]).integers(0, 1024, (8, frames), dtype=np.int16)


def _sample(seconds: float, seed: int = 0) -> Waveform:
    noise = np.random.default_rng(seed).standard_normal(round(24_000 * seconds))
    return (0.2 * noise).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 25, WINDOW - 1, WINDOW, WINDOW + 1, 148, 149, 200, 333])
def test_windowed_decode_is_whole_decode(codec: Codec, frames: int) -> None:
    """Decoding by windows gives the samples that decoding the whole clip gives, at any length."""
    codes = _codes(frames)
    whole = codec._decode(codes[None])[0]
    (windowed,) = codec.decode([codes])
    assert windowed.dtype == np.float32
    assert windowed.shape == (HOP * frames,)
    assert np.abs(windowed - whole).max() < 1e-6 < np.abs(whole).max()


def test_a_clip_decodes_alike_among_others(codec: Codec) -> None:
    """Clips of many lengths decoded together each come out as alone, in the order given."""
    clips = [_codes(frames, seed) for seed, frames in enumerate((200, 3, 0, 84, 700, 3, 97))]
    together = codec.decode(clips)
    for clip, waveform in zip(clips, together, strict=True):
        (alone,) = codec.decode([clip])
        assert waveform.shape == (HOP * clip.shape[1],)
        np.testing.assert_allclose(waveform, alone, atol=1e-6)


def test_a_frame_reaches_ten_frames_and_no_further(codec: Codec) -> None:
    """Changing one frame's codes changes samples up to `MARGIN` frames away, and none beyond."""
    codes = _codes(64)
    changed = codes.copy()
    changed[:, 32] = (changed[:, 32] + 500) % 1024
    before, after = codec._decode(np.stack([codes, changed]))
    touched = np.flatnonzero(before != after) // HOP
    assert touched.min() == 32 - MARGIN
    assert touched.max() == 32 + MARGIN


def test_windows_cover_a_clip_once_with_context() -> None:
    """Whatever the length, kept parts adjoin from 0 to the end, each with its context or a true end."""
    for frames in range(600):
        cuts = windows(0, frames)
        kept = [frame for cut in cuts for frame in range(cut.first, cut.last)]
        assert kept == list(range(frames))
        for cut in cuts:
            assert cut.frames == min(WINDOW, frames)
            assert cut.start == 0 or cut.first - cut.start >= MARGIN
            assert cut.stop == frames or cut.stop - cut.last >= MARGIN


@pytest.mark.parametrize("samples", [960, 24_000, 24_001, 71_999, 120_000])
def test_encoding_says_what_the_model_says(codec: Codec, samples: int) -> None:
    """A sample becomes the model's codes, int16 `[8, frames]` at 25 frames a second, each time the same."""
    waveform = _sample(samples / 24_000)
    codes = codec.encode(waveform)
    assert codes.dtype == np.int16
    assert len(codes) == 8
    assert abs(codes.shape[1] - samples / HOP) < 1
    with torch.inference_mode():
        direct = codec._model.encode(torch.from_numpy(waveform)[None, None], return_dict=False)
    assert codes.tolist() == direct[0].tolist() == codec.encode(waveform).tolist()


def test_different_sounds_get_different_codes(codec: Codec) -> None:
    """The tiny checkpoint's codes depend on the sound; otherwise nothing here would test encoding."""
    codes = codec.encode(_sample(4.0))
    assert all(len(set(row.tolist())) > 30 for row in codes)
    assert (codes != codec.encode(_sample(4.0, seed=1))).mean() > 0.9


@pytest.mark.parametrize("shape", [(959,), (2, 24_000)])
def test_encoding_refuses_what_is_no_sample(codec: Codec, shape: tuple[int, ...]) -> None:
    """Less than a frame, or more than one channel, is an error and not a crash inside the model."""
    with pytest.raises(ValueError, match="mono"):
        codec.encode(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("codes", [np.full((8, 9), 1024), np.full((8, 9), -1), np.zeros((7, 9)), np.zeros(8)])
def test_decoding_refuses_what_is_no_code(codec: Codec, codes: Codes) -> None:
    """An end-of-stream token or a missing codebook is refused before it reaches the device."""
    with pytest.raises(ValueError, match="code"):
        codec.decode([codes.astype(np.int16)])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sample_rate": 16_000}, "sample rate 16000"),
        ({"target_bandwidths": [0.5, 1]}, "codebooks 4"),
        ({"codebook_size": 512}, "codebook size 512"),
    ],
)
def test_another_codec_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    """A configuration the engine was not built for is refused at loading, naming what differs."""
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=named):
        Codec.load(tmp_path, "cpu")


def test_another_frame_length_is_refused(folder: Path, tmp_path: Path) -> None:
    """The class's own default of 320 samples a frame is not the published codec, and is refused."""
    config = json.loads((folder / "config.json").read_text())
    config["acoustic_model_config"] |= {"downsampling_ratios": [8, 5, 4, 2], "hop_length": 320}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="samples per frame 320"):
        Codec.load(tmp_path, "cpu")


def test_a_damaged_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    """Cut, absent or incomplete weights are an error that names the folder, never random speech."""
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded"):
        Codec.load(tmp_path, "cpu")
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Codec.load(tmp_path, "cpu")
    weights = load_file(folder / "model.safetensors")
    del weights["fc2.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, the first: fc2\.weight"):
        Codec.load(tmp_path, "cpu")


def test_resampling_is_the_published_one() -> None:
    """The worker's 24 kHz to 16 kHz gives what torchaudio 2.11's `functional.resample` gave for a sweep."""
    time = torch.arange(1_003, dtype=torch.float64) / 24_000
    sweep = torch.sin(2 * math.pi * (200 + 120_000 * time) * time).float()
    resampled = resample_like_torchaudio(sweep[None], 24_000, 16_000)[0]
    assert resampled.shape == (669,)
    assert resampled[REFERENCE_AT].tolist() == pytest.approx(REFERENCE, abs=2e-6)


REFERENCE_AT = [0, 1, 2, 17, 100, 333, 500, 501, 650, 668]
REFERENCE = [
    0.0051544,
    0.0805533,
    0.1686793,
    0.816622,
    -0.3826206,
    0.7827331,
    0.2219302,
    -0.2796793,
    0.0059982,
    0.1189057,
]


def _encoder(calls: list[int]) -> Callable[[Waveform], Awaitable[Codes]]:
    async def encode(waveform: Waveform) -> Codes:
        calls.append(len(waveform))
        await asyncio.sleep(0)
        return _codes(len(waveform))

    return encode


def _loader(sha256: str, frames: int, calls: list[str]) -> Callable[[], Awaitable[VoiceSample]]:
    async def load() -> VoiceSample:
        calls.append(sha256)
        await asyncio.sleep(0)
        return VoiceSample(waveform=np.zeros(frames, np.float32), sha256=sha256, transcript="words")

    return load


async def test_a_voice_is_fetched_and_encoded_once() -> None:
    """Many requests for a voice, together and later, cost one download and one encoding."""
    loads: list[str] = []
    encodings: list[int] = []
    cache = VoiceCache(_encoder(encodings), capacity=2)
    load = _loader("a", 5, loads)
    answers = await asyncio.gather(*(cache.codes("a", load) for _ in range(8)))
    answers.append(await cache.codes("a", load))
    assert loads == ["a"]
    assert encodings == [5]
    assert all(sha256 == "a" and codes is answers[0][1] for sha256, codes in answers)


async def test_an_undeclared_digest_still_shares_the_codes() -> None:
    """Without a digest the sample must be fetched to know it, but is encoded no second time."""
    loads: list[str] = []
    encodings: list[int] = []
    cache = VoiceCache(_encoder(encodings), capacity=2)
    assert (await cache.codes(None, _loader("a", 5, loads)))[0] == "a"
    await cache.codes(None, _loader("a", 5, loads))
    await cache.codes("a", _loader("a", 5, loads))
    assert loads == ["a", "a"]
    assert encodings == [5]


async def test_the_voice_unused_longest_goes_first() -> None:
    """The cache stays at its capacity, and drops the voice that was asked for least recently."""
    loads: list[str] = []
    cache = VoiceCache(_encoder([]), capacity=2)
    for voice in ("a", "b", "a", "c", "a", "b"):
        await cache.codes(voice, _loader(voice, 5, loads))
    assert loads == ["a", "b", "c", "b"]
    assert len(cache) == 2


async def test_a_failed_voice_is_tried_again() -> None:
    """A sample that could not be had fails those who waited for it, and is not remembered."""

    async def unreachable() -> VoiceSample:
        await asyncio.sleep(0)
        raise ConnectionError("no route")

    loads: list[str] = []
    cache = VoiceCache(_encoder([]), capacity=2)
    failed = await asyncio.gather(*(cache.codes("a", unreachable) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [ConnectionError, ConnectionError]
    await cache.codes("a", _loader("a", 5, loads))
    assert loads == ["a"]


async def test_a_bad_sample_fails_nobody_who_brings_a_good_one() -> None:
    """Whoever waited for a voice that another request could not load loads its own; encoded once."""

    async def unreachable() -> VoiceSample:
        await asyncio.sleep(0)
        raise ConnectionError("no route")

    loads: list[str] = []
    encodings: list[int] = []
    cache = VoiceCache(_encoder(encodings), capacity=2)
    good = (cache.codes("a", _loader("a", 5, loads)) for _ in range(3))
    bad, *answers = await asyncio.gather(cache.codes("a", unreachable), *good, return_exceptions=True)
    assert isinstance(bad, ConnectionError)
    assert [isinstance(answer, tuple) and answer[0] for answer in answers] == ["a"] * 3
    assert encodings == [5]


async def test_a_cancelled_request_leaves_the_voice_to_the_others() -> None:
    """Cancelling the request that began the encoding does not fail the one that waits for it."""
    loads: list[str] = []
    cache = VoiceCache(_encoder([]), capacity=2)
    first = asyncio.ensure_future(cache.codes("a", _loader("a", 5, loads)))
    second = asyncio.ensure_future(cache.codes("a", _loader("a", 5, loads)))
    await asyncio.sleep(0)
    first.cancel()
    sha256, codes = await second
    assert (sha256, codes.shape) == ("a", (8, 5))
    assert loads == ["a"]
    with pytest.raises(asyncio.CancelledError):
        await first
