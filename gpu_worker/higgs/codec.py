"""The codec: a voice sample to codes, codes to a waveform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.engine_protocol import Waveform
from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOKS, Codes
from gpu_worker.higgs.torchaudio_shim import in_place_of_torchaudio
from narration.contract import FRAME_RATE, SAMPLE_RATE

CODES = BEGIN  # of one codebook; the model's begin and end codes come after
HOP = SAMPLE_RATE // FRAME_RATE  # samples in one frame

MARGIN = 10  # frames; what a sample depends on lies within ten frames of its own, never further
WINDOW = 64 + 2 * MARGIN  # frames decoded at a time
BATCH = 16  # windows decoded together; bounds the memory, not the result

# Buffers that only training reads; checkpoints may leave them out.
_TRAINING_ONLY = (".inited", ".cluster_size", ".embed_avg")


def tokenizer_classes() -> tuple[Any, Any]:
    """Configuration and model class of the codec in transformers."""
    # Imported first and outside: what it finds out about torchaudio, it remembers.
    import transformers.audio_utils  # noqa: F401, PLC0415  # seconds of import, only where a codec is loaded

    package = "transformers.models.higgs_audio_v2_tokenizer"
    with in_place_of_torchaudio():
        # By their full names: the package itself would refuse them where torchaudio is not installed.
        configuration = import_module(f"{package}.configuration_higgs_audio_v2_tokenizer")
        modeling = import_module(f"{package}.modeling_higgs_audio_v2_tokenizer")
    return configuration.HiggsAudioV2TokenizerConfig, modeling.HiggsAudioV2TokenizerModel


class Codec:
    """Higgs Audio V2's codec on one device, in single precision throughout.

    Codes are nearest neighbours: half precision, or TF32's ten bits of mantissa, would flip some.
    Its work goes to a CUDA stream of its own, so that it never queues behind the decode loop.
    Not safe for use by several threads at once.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @classmethod
    def load(cls, folder: Path, device: str | torch.device) -> Codec:
        """Load the checkpoint in `folder`.

        Raises `ModelError` if it cannot be read or is not the codec this worker is built for:
        24 kHz, frames of 960 samples, 8 codebooks of 1024 codes.
        """
        device = torch.device(device)
        config_class, model_class = tokenizer_classes()
        try:
            config = config_class.from_pretrained(folder, local_files_only=True)
            _check(config, folder)
            model, report = model_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the codec in {folder} cannot be loaded: {error}") from error
        missing = sorted(key for key in report["missing_keys"] if not key.endswith(_TRAINING_ONLY))
        if missing:
            raise ModelError(f"the codec in {folder} lacks {len(missing)} weights, the first: {missing[0]}")
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
        return cls(model.eval().to(device), device)

    def encode(self, waveform: Waveform) -> Codes:
        """Codes of one voice sample: `[samples]` at 24 kHz to `[8, frames]`.

        One sample at a time and unpadded: the encoder normalises and attends over the whole
        clip, so padding or cutting would change every code.
        """
        if waveform.ndim != 1 or len(waveform) < HOP:
            raise ValueError(f"a voice sample is mono and at least {HOP} samples, not {waveform.shape}")
        with torch.inference_mode(), self._on_stream():
            samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)).to(self._device)
            codes = self._model.encode(samples[None, None], return_dict=False)
            encoded: Codes = codes[0].cpu().numpy().astype(np.int16)
        return encoded

    def decode(self, clips: Sequence[Codes]) -> list[Waveform]:
        """Waveform of each clip: `[8, frames]` to exactly `[960 * frames]`, not yet clipped to [-1, 1].

        Each clip is cut into windows of one shape with the context a sample depends on, and
        windows of all clips are decoded together: the same waveform as decoding it whole.
        """
        for codes in clips:
            if codes.ndim != 2 or len(codes) != CODEBOOKS:
                raise ValueError(f"a clip's codes are [{CODEBOOKS}, frames], not {codes.shape}")
            if codes.size and not (codes.min() >= 0 and codes.max() < CODES):
                raise ValueError(f"a code lies outside 0..{CODES - 1}")
        waveforms = [np.empty(HOP * codes.shape[1], dtype=np.float32) for codes in clips]
        cuts = [window for row, codes in enumerate(clips) for window in windows(row, codes.shape[1])]
        for batch in _batches(cuts):
            stacked = np.stack([clips[window.row][:, window.start : window.stop] for window in batch])
            for window, samples in zip(batch, self._decode(stacked), strict=True):
                kept = samples[HOP * (window.first - window.start) : HOP * (window.last - window.start)]
                waveforms[window.row][HOP * window.first : HOP * window.last] = kept
        return waveforms

    def _decode(self, codes: Codes) -> NDArray[np.float32]:
        """Decode whole what is given: `[rows, 8, frames]` to `[rows, 960 * frames]`."""
        with torch.inference_mode(), self._on_stream():
            on_device = torch.from_numpy(codes).to(self._device, torch.long)
            waveforms = self._model.decode(on_device, return_dict=False)
            decoded: NDArray[np.float32] = waveforms[:, 0].cpu().numpy()
        return decoded

    def _on_stream(self) -> Any:
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()


@dataclass(frozen=True, slots=True)
class CodecWindow:
    """Frames `start` to `stop` of clip `row`, decoded to keep those from `first` to `last`."""

    row: int
    start: int
    stop: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        """Length of what is decoded."""
        return self.stop - self.start


def windows(row: int, frames: int) -> list[CodecWindow]:
    """Cut a clip for decoding; what the windows keep adjoins and covers the clip.

    Every window is `WINDOW` frames, the last shifted back to end where the clip does, since a
    padded end would be heard; a clip shorter than a window is one window of its own length.
    """
    cuts = []
    kept = 0
    while kept < frames:
        start = max(min(kept - MARGIN, frames - WINDOW), 0)
        stop = min(start + WINDOW, frames)
        last = frames if stop == frames else stop - MARGIN
        cuts.append(CodecWindow(row, start, stop, kept, last))
        kept = last
    return cuts


def _batches(cuts: list[CodecWindow]) -> Iterator[list[CodecWindow]]:
    """At most `BATCH` windows of one length at a time."""
    length = attrgetter("frames")
    for _, alike in groupby(sorted(cuts, key=length), key=length):
        together = list(alike)
        for at in range(0, len(together), BATCH):
            yield together[at : at + BATCH]


def _check(config: Any, folder: Path) -> None:
    """Refuse a configuration that the engine's constants do not describe."""
    for name, found, needed in (
        ("sample rate", config.sample_rate, SAMPLE_RATE),
        ("samples per frame", config.hop_length, HOP),
        ("frames per second", config.frame_rate, FRAME_RATE),
        ("codebooks", config.num_quantizers, CODEBOOKS),
        ("codebook size", config.codebook_size, CODES),
    ):
        if found != needed:
            raise ModelError(f"the codec in {folder} has {name} {found}; this worker needs {needed}")
