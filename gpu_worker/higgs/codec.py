"""Codec: a voice sample's waveform to codes, a clip's codes to a waveform."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
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
from gpu_worker.higgs.capacity import weight_bytes
from gpu_worker.higgs.codec_graphs import Record, WindowGraphs, record_on
from gpu_worker.higgs.delay_pattern import BEGIN, CODEBOOKS, Codes
from gpu_worker.higgs.failure_text import one_line
from gpu_worker.higgs.torchaudio_shim import torchaudio_stub
from narration.contract import FRAME_RATE, SAMPLE_RATE

CODEC_CODES = BEGIN  # in one codebook; the model's begin and end codes have the next two numbers
FRAME_SAMPLES = SAMPLE_RATE // FRAME_RATE

MARGIN_FRAMES = 10  # a sample depends on the frames within ten of its own, and on no others
WINDOW_FRAMES = 64 + 2 * MARGIN_FRAMES  # decoded at a time
WINDOWS_PER_BATCH = 16  # decoded together; limits the memory and changes no sample

log = logging.getLogger(__name__)

# Buffers that only training reads; a checkpoint may lack them.
_TRAINING_ONLY = (".inited", ".cluster_size", ".embed_avg")


def tokenizer_classes() -> tuple[Any, Any]:
    """The codec's configuration class and model class in transformers."""
    # Imported before the stub is in place: it remembers whether torchaudio is installed.
    import transformers.audio_utils  # noqa: F401, PLC0415 -- takes seconds, and only a codec needs it

    package = "transformers.models.higgs_audio_v2_tokenizer"
    with torchaudio_stub():
        # By module name: the package refuses these classes where torchaudio is not installed.
        configuration = import_module(f"{package}.configuration_higgs_audio_v2_tokenizer")
        modeling = import_module(f"{package}.modeling_higgs_audio_v2_tokenizer")
    return configuration.HiggsAudioV2TokenizerConfig, modeling.HiggsAudioV2TokenizerModel


class Codec:
    """Higgs Audio V2's codec on one device, in float32.

    Encoding chooses the nearest code: half precision or TF32 would choose others. The codec has
    its own CUDA stream of low priority, so that it neither queues behind the decode steps nor
    delays them. Not safe for use by several threads at once.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        # The lowest priority, which is 0: decode steps run in a stream of higher priority.
        self._cuda_stream = torch.cuda.Stream(device, priority=0) if device.type == "cuda" else None
        self._windows_per_batch = WINDOWS_PER_BATCH
        self._tf32 = False
        self._graphs: WindowGraphs | None = None
        self._fused = False

    @classmethod
    def load(cls, folder: Path, device: str | torch.device) -> Codec:
        """Load the checkpoint in `folder`.

        Raises `ModelError` if it cannot be read or is not the codec that this worker is built
        for: 24 kHz, frames of 960 samples, 8 codebooks of 1024 codes.
        """
        device = torch.device(device)
        config_class, model_class = tokenizer_classes()
        try:
            config = config_class.from_pretrained(folder, local_files_only=True)
            _check_config(config, folder)
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

    @property
    def weight_bytes(self) -> int:
        """Bytes of the codec's weights."""
        return weight_bytes(self._model)

    @property
    def configuration(self) -> dict[str, str]:
        """How clips are decoded; their samples are the same only where this is."""
        return {"codec": "tf32" if self._tf32 else "float32", "snake": "triton" if self._fused else "plain"}

    def prepare(self, *, tf32: bool = False, record: Record | None = None) -> None:
        """Fuse the decoder's activations and record its full windows; on CUDA, before the first request.

        `tf32`: decode with products of lower precision; encoding never does. `record` records on
        another device than CUDA. What fails, or gives other samples, is not used, and the log says why.
        """
        self._tf32 = tf32
        if self._cuda_stream:
            self._fuse_snake()
            record = record or record_on(self._cuda_stream)
        if record is None:
            return
        try:
            with torch.inference_mode(), self._on_stream():
                self._graphs = WindowGraphs(self._decode_on_device, record, WINDOW_FRAMES, self._device)
        except torch.AcceleratorError:
            raise  # the device itself failed
        except Exception as error:  # noqa: BLE001 -- decoding goes on without, whatever the recording raised
            log.warning("the codec's windows are launched kernel by kernel: %s", one_line(error))

    def encode(self, waveform: Waveform) -> Codes:
        """Codes `[8, frames]` of one voice sample `[samples]` at 24 kHz.

        One sample at a time and without padding: the encoder normalizes and attends over the whole
        sample, so padding would change every code. Raises `ValueError` for less than one frame.
        """
        if waveform.ndim != 1 or len(waveform) < FRAME_SAMPLES:
            raise ValueError(
                f"a voice sample is mono and at least {FRAME_SAMPLES} samples, not {waveform.shape}"
            )
        with torch.inference_mode(), self._on_stream():
            samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)).to(self._device)
            codes = self._model.encode(samples[None, None], return_dict=False)
            encoded: Codes = codes[0].cpu().numpy().astype(np.int16)
        return encoded

    def decode(self, clips: Sequence[Codes]) -> list[Waveform]:
        """Waveform `[960 * frames]` of each clip's codes `[8, frames]`, not clipped to [-1, 1].

        Each clip is cut into windows of one shape, with the margin that its samples depend on, and
        the windows of all clips are decoded in batches. The waveform equals that of decoding the
        clip whole. Raises `ValueError` for codes of another shape or range.
        """
        for codes in clips:
            if codes.ndim != 2 or len(codes) != CODEBOOKS:
                raise ValueError(f"a clip's codes are [{CODEBOOKS}, frames], not {codes.shape}")
            if codes.size and not (codes.min() >= 0 and codes.max() < CODEC_CODES):
                raise ValueError(f"a code lies outside 0..{CODEC_CODES - 1}")
        waveforms = [np.empty(FRAME_SAMPLES * codes.shape[1], dtype=np.float32) for codes in clips]
        windows = [window for clip, codes in enumerate(clips) for window in cut_windows(clip, codes.shape[1])]
        for batch in _batches(windows):
            stacked = np.stack([clips[window.clip][:, window.start : window.stop] for window in batch])
            for window, samples in zip(batch, self._decode_fitting(stacked), strict=True):
                waveforms[window.clip][window.kept_samples] = samples[window.kept_in_window]
        return waveforms

    def _decode_fitting(self, codes: Codes) -> list[NDArray[np.float32]]:
        """As `_decode`, in smaller batches from now on where the device's memory asks for it."""
        rows: list[NDArray[np.float32]] = []
        while len(rows) < len(codes):
            part = codes[len(rows) : len(rows) + self._windows_per_batch]
            try:
                rows.extend(self._decode(part))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._windows_per_batch = len(part) // 2
                log.warning("out of device memory: the codec decodes %d windows at a time", len(part) // 2)
                torch.cuda.empty_cache()
        return rows

    def _decode(self, codes: Codes) -> NDArray[np.float32]:
        """Decode `codes` [batch, 8, frames] without windows: `[batch, 960 * frames]`."""
        with torch.inference_mode(), self._on_stream():
            on_host = torch.from_numpy(codes).long()
            if self._graphs is not None and codes.shape[2] == WINDOW_FRAMES:
                waveforms = self._graphs.decode(on_host)
            else:
                waveforms = self._decode_on_device(on_host.to(self._device))
            # A copy: a recorded decoding writes to the same waveforms each time.
            decoded: NDArray[np.float32] = waveforms[:, 0].cpu().numpy().copy()
        return decoded

    def _decode_on_device(self, codes: torch.Tensor) -> torch.Tensor:
        """Waveforms [batch, 1, 960 frames] of `codes` [batch, 8, frames]."""
        if not self._tf32:
            waveforms: torch.Tensor = self._model.decode(codes, return_dict=False)
            return waveforms
        torch.backends.cudnn.allow_tf32 = True
        try:
            waveforms = self._model.decode(codes, return_dict=False)
        finally:
            torch.backends.cudnn.allow_tf32 = False
        return waveforms

    def _fuse_snake(self) -> None:
        """Let the decoder's activations run as one kernel each, if that gives the same values."""
        decoder = self._model.acoustic_decoder
        activations = [module for module in decoder.modules() if type(module).__name__ == "Snake1d"]
        try:
            from gpu_worker.higgs.triton_snake import snake  # noqa: PLC0415 -- only where Triton is installed

            plain = activations[0]
            hidden = torch.randn(2, plain.alpha.shape[1], 1500, device=self._device)
            torch.testing.assert_close(snake(hidden, plain.alpha), plain(hidden), atol=1e-5, rtol=1e-5)
        except torch.AcceleratorError:
            raise  # the device itself failed
        except Exception as error:  # noqa: BLE001 -- decoding goes on without, whatever the compiler raised
            log.warning("the codec's activations are launched in six kernels each: %s", one_line(error))
            return
        for module in activations:
            module.forward = partial(snake, alpha=module.alpha)
        self._fused = True

    def _on_stream(self) -> Any:
        return torch.cuda.stream(self._cuda_stream) if self._cuda_stream else nullcontext()


@dataclass(frozen=True, slots=True)
class DecodeWindow:
    """Frames `start` to `stop` of clip number `clip` are decoded; those from `first` to `last` are kept."""

    clip: int
    start: int
    stop: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        """Number of frames decoded."""
        return self.stop - self.start

    @property
    def kept_samples(self) -> slice:
        """The kept samples' place in the clip."""
        return slice(FRAME_SAMPLES * self.first, FRAME_SAMPLES * self.last)

    @property
    def kept_in_window(self) -> slice:
        """The kept samples' place in the window."""
        return slice(FRAME_SAMPLES * (self.first - self.start), FRAME_SAMPLES * (self.last - self.start))


def cut_windows(clip: int, frames: int) -> list[DecodeWindow]:
    """Windows that cover a clip; the parts they keep adjoin from its first frame to its last.

    Every window is `WINDOW_FRAMES` long. The last one is shifted back to end with the clip, since
    padding at the end would be audible; a clip shorter than a window is one window of its length.
    """
    windows = []
    kept = 0
    while kept < frames:
        start = max(min(kept - MARGIN_FRAMES, frames - WINDOW_FRAMES), 0)
        stop = min(start + WINDOW_FRAMES, frames)
        last = frames if stop == frames else stop - MARGIN_FRAMES
        windows.append(DecodeWindow(clip, start, stop, kept, last))
        kept = last
    return windows


def _batches(windows: list[DecodeWindow]) -> Iterator[list[DecodeWindow]]:
    """Batches of at most `WINDOWS_PER_BATCH` windows of equal length."""
    length = attrgetter("frames")
    for _, group in groupby(sorted(windows, key=length), key=length):
        equal = list(group)
        for start in range(0, len(equal), WINDOWS_PER_BATCH):
            yield equal[start : start + WINDOWS_PER_BATCH]


def _check_config(config: Any, folder: Path) -> None:
    """Raise `ModelError` if the configuration differs from the engine's constants."""
    for name, value, needed in (
        ("sample rate", config.sample_rate, SAMPLE_RATE),
        ("samples per frame", config.hop_length, FRAME_SAMPLES),
        ("frames per second", config.frame_rate, FRAME_RATE),
        ("codebooks", config.num_quantizers, CODEBOOKS),
        ("codebook size", config.codebook_size, CODEC_CODES),
    ):
        if value != needed:
            raise ModelError(f"the codec in {folder} has {name} {value}; this worker needs {needed}")
