"""Codec: windows equal decoding whole, codes equal the model's, bad checkpoints and inputs are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.engine_protocol import Waveform
from gpu_worker.higgs.codec import (
    FRAME_SAMPLES,
    MARGIN_FRAMES,
    WINDOW_FRAMES,
    Codec,
    cut_windows,
    tokenizer_classes,
)
from gpu_worker.higgs.codec_graphs import Decode
from gpu_worker.higgs.delay_pattern import Codes


@pytest.fixture(scope="module")
def codec(codec_folder: Path) -> Codec:
    return Codec.load(codec_folder, "cpu")


@pytest.fixture(scope="module")
def model(codec_folder: Path) -> Any:
    """transformers' model, which encodes and decodes whole clips."""
    return tokenizer_classes()[1].from_pretrained(codec_folder).eval()


def _decode_whole(model: Any, codes: Codes) -> Waveform:
    """Waveform [960 frames] of `codes` [8, frames], without windows."""
    with torch.inference_mode():
        decoded = model.decode(torch.from_numpy(codes.astype(np.int64))[None], return_dict=False)
    waveform: Waveform = decoded[0, 0].numpy()
    return waveform


def _codes(frames: int, seed: int = 0) -> Codes:
    return np.random.default_rng([seed, frames]).integers(0, 1024, (8, frames), dtype=np.int16)


def _sample(seconds: float, seed: int = 0) -> Waveform:
    noise = np.random.default_rng(seed).standard_normal(round(24_000 * seconds))
    return (0.2 * noise).astype(np.float32)


@pytest.mark.parametrize(
    "frames", [1, 25, WINDOW_FRAMES - 1, WINDOW_FRAMES, WINDOW_FRAMES + 1, 148, 149, 200, 333]
)
def test_decoding_in_windows_equals_decoding_whole(codec: Codec, model: Any, frames: int) -> None:
    """The samples are those of the whole clip, at any length."""
    codes = _codes(frames)
    whole = _decode_whole(model, codes)
    (windowed,) = codec.decode([codes])
    assert windowed.dtype == np.float32
    assert windowed.shape == (FRAME_SAMPLES * frames,)
    assert np.abs(windowed - whole).max() < 1e-6 < np.abs(whole).max()


def test_clips_decoded_together_equal_clips_decoded_alone(codec: Codec) -> None:
    """Clips of many lengths, returned in the order given."""
    clips = [_codes(frames, seed) for seed, frames in enumerate((200, 3, 0, 84, 700, 3, 97))]
    together = codec.decode(clips)
    for clip, waveform in zip(clips, together, strict=True):
        (alone,) = codec.decode([clip])
        assert waveform.shape == (FRAME_SAMPLES * clip.shape[1],)
        np.testing.assert_allclose(waveform, alone, atol=1e-6)


def _record_a_call(decode: Decode, codes: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Stands for a CUDA graph: each replay writes to the waveforms of the first."""
    waveforms = decode(codes)
    return lambda: waveforms.copy_(decode(codes))


def test_recorded_windows_equal_launched_ones(codec_folder: Path, codec: Codec) -> None:
    """Clips of one window and of many, in batches that are filled up, and clips shorter than a window."""
    recorded = Codec.load(codec_folder, "cpu")
    recorded.prepare(record=_record_a_call)
    assert recorded._graphs is not None
    for frames in ([3], [84], [84, 700, 20, 200], [84] * 19):
        clips = [_codes(count, seed) for seed, count in enumerate(frames)]
        for one, other in zip(recorded.decode(clips), codec.decode(clips), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_recording_that_gives_other_samples_is_not_used(
    codec_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Windows are then launched kernel by kernel, and the log says why."""
    recorded = Codec.load(codec_folder, "cpu")
    recorded.prepare(record=lambda decode, codes: lambda: 2 * decode(codes))
    assert recorded._graphs is None
    assert "launched kernel by kernel: ValueError: a recorded batch of 16 windows" in caplog.text


def test_a_batch_that_does_not_fit_is_decoded_in_smaller_ones(
    codec_folder: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory halves the codec's batches, also later ones; no sample changes."""
    small = Codec.load(codec_folder, "cpu")
    batches: list[int] = []
    decode = small._decode

    def decode_three_at_most(codes: Codes) -> Any:
        batches.append(len(codes))
        if len(codes) > 3:
            raise torch.OutOfMemoryError
        return decode(codes)

    monkeypatch.setattr(small, "_decode", decode_three_at_most)
    codes = _codes(64 * 9)  # nine windows
    np.testing.assert_allclose(small.decode([codes])[0], codec.decode([codes])[0], atol=1e-6)
    assert batches == [9, 4, 2, 2, 2, 2, 1]
    batches.clear()
    small.decode([codes])
    assert batches == [2, 2, 2, 2, 1]


def test_a_frame_changes_samples_up_to_ten_frames_away(model: Any) -> None:
    """Changing one frame's codes changes samples up to `MARGIN_FRAMES` frames away, and none beyond."""
    codes = _codes(64)
    changed = codes.copy()
    changed[:, 32] = (changed[:, 32] + 500) % 1024
    before, after = _decode_whole(model, codes), _decode_whole(model, changed)
    changed_frames = np.flatnonzero(before != after) // FRAME_SAMPLES
    assert changed_frames.min() == 32 - MARGIN_FRAMES
    assert changed_frames.max() == 32 + MARGIN_FRAMES


def test_windows_keep_each_frame_of_a_clip_once_with_a_margin() -> None:
    """Kept parts adjoin from the first frame to the last, each with a margin or the clip's own end."""
    for frames in range(600):
        windows = cut_windows(0, frames)
        kept = [frame for window in windows for frame in range(window.first, window.last)]
        assert kept == list(range(frames))
        for window in windows:
            assert window.frames == min(WINDOW_FRAMES, frames)
            assert window.start == 0 or window.first - window.start >= MARGIN_FRAMES
            assert window.stop == frames or window.stop - window.last >= MARGIN_FRAMES


@pytest.mark.parametrize("samples", [960, 24_000, 24_001, 71_999, 120_000])
def test_encoding_gives_the_models_codes(codec: Codec, model: Any, samples: int) -> None:
    """int16 `[8, frames]` at 25 frames a second, the same each time."""
    waveform = _sample(samples / 24_000)
    codes = codec.encode(waveform)
    assert codes.dtype == np.int16
    assert len(codes) == 8
    assert abs(codes.shape[1] - samples / FRAME_SAMPLES) < 1
    with torch.inference_mode():
        direct = model.encode(torch.from_numpy(waveform)[None, None], return_dict=False)
    assert codes.tolist() == direct[0].tolist() == codec.encode(waveform).tolist()


def test_different_sounds_get_different_codes(codec: Codec) -> None:
    """The tiny checkpoint's codes depend on the sound, without which the tests above would prove nothing."""
    codes = codec.encode(_sample(4.0))
    assert all(len(set(codebook.tolist())) > 30 for codebook in codes)
    assert (codes != codec.encode(_sample(4.0, seed=1))).mean() > 0.9


@pytest.mark.parametrize("shape", [(959,), (2, 24_000)])
def test_encoding_refuses_another_shape(codec: Codec, shape: tuple[int, ...]) -> None:
    """Less than a frame, or two channels, raises `ValueError` before it reaches the model."""
    with pytest.raises(ValueError, match="mono"):
        codec.encode(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("codes", [np.full((8, 9), 1024), np.full((8, 9), -1), np.zeros((7, 9)), np.zeros(8)])
def test_decoding_refuses_other_codes(codec: Codec, codes: Codes) -> None:
    """A begin code, a negative code or a missing codebook raises `ValueError` before the model runs."""
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
    codec_folder: Path, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    """Loading names what differs in a configuration that the engine is not built for."""
    config = json.loads((codec_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=named):
        Codec.load(tmp_path, "cpu")


def test_another_frame_length_is_refused(codec_folder: Path, tmp_path: Path) -> None:
    """320 samples a frame, the default of transformers' class, is not the published codec."""
    config = json.loads((codec_folder / "config.json").read_text())
    config["acoustic_model_config"] |= {"downsampling_ratios": [8, 5, 4, 2], "hop_length": 320}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="samples per frame 320"):
        Codec.load(tmp_path, "cpu")


def test_a_damaged_checkpoint_is_refused(codec_folder: Path, tmp_path: Path) -> None:
    """Absent, truncated or incomplete weights are an error; transformers would fill them at random."""
    (tmp_path / "config.json").write_bytes((codec_folder / "config.json").read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded"):
        Codec.load(tmp_path, "cpu")
    whole = (codec_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Codec.load(tmp_path, "cpu")
    weights = load_file(codec_folder / "model.safetensors")
    del weights["fc2.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, the first: fc2\.weight"):
        Codec.load(tmp_path, "cpu")
