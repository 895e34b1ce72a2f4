"""Opens the engine that the settings choose, and names its model id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gpu_worker.checkpoints.source import ModelError, find_source
from gpu_worker.checkpoints.source import model_id as higgs_model_id
from gpu_worker.engine_protocol import Engine
from gpu_worker.settings import WorkerSettings
from gpu_worker.speech_server.options import SpeechServerOptions
from gpu_worker.start_times import START_TIMES
from narration.contract import DRAFT_MODEL

AMPERE = 8
"""The first major compute capability with bfloat16 and the flash kernel."""

if TYPE_CHECKING:
    from gpu_worker.higgs.engine import HiggsEngine


def model_id(settings: WorkerSettings) -> str:
    """The model id that requests to this worker carry; raises `ModelError` if none is chosen."""
    if settings.engine == "draft":
        return DRAFT_MODEL
    if settings.engine == "openai":
        return SpeechServerOptions.of(settings).model_id
    return higgs_model_id(find_source("model", settings.model), find_source("codec", settings.codec))


def open_engine(settings: WorkerSettings) -> Engine:
    """Open the engine, ready for requests; raises `ModelError` if its model cannot be opened."""
    if settings.engine == "draft":
        return _open_draft(settings)
    if settings.engine == "openai":
        return _open_speech_server(settings)
    return open_higgs(settings)


# Each engine is imported where it is opened: the draft engine and that of speech servers need no torch, Higgs
# no espeak-ng.


def _open_draft(settings: WorkerSettings) -> Engine:
    from gpu_worker.draft.engine import DEFAULT_SLOTS, DraftEngine  # noqa: PLC0415 -- see the comment above

    return DraftEngine(slots=settings.slots or DEFAULT_SLOTS, voice_cache=settings.voice_cache)


def _open_speech_server(settings: WorkerSettings) -> Engine:
    from gpu_worker.speech_server.engine import DEFAULT_SLOTS, SpeechServerEngine  # noqa: PLC0415 -- see the comment above

    return SpeechServerEngine(
        SpeechServerOptions.of(settings),
        slots=settings.slots or DEFAULT_SLOTS,
        voice_cache=settings.voice_cache,
    )


def open_higgs(settings: WorkerSettings) -> HiggsEngine:
    """Load Higgs Audio V2, whatever `settings.engine` says.

    Raises `ModelError` for a checkpoint that cannot be loaded, and for a CUDA device that
    is set and cannot be seen or used.
    """
    model, codec = find_source("model", settings.model), find_source("codec", settings.codec)

    with START_TIMES.part("torch"):
        import torch  # noqa: PLC0415 -- see the comment above

    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        _require_cuda(torch)

    with START_TIMES.part("transformers"):
        from gpu_worker.higgs.engine import EngineOptions, HiggsEngine  # noqa: PLC0415 -- see the comment above

    options = EngineOptions(
        slots=settings.slots,
        slot_length=settings.slot_length,
        prefix_cache_bytes=settings.prefix_cache_mb << 20,
        voices=settings.voice_cache,
        codec_tf32=settings.codec_tf32,
        compile_sampler=settings.compile_sampler,
        attention=settings.attention,
    )
    with START_TIMES.part("checkpoints"):  # found, or downloaded
        model_folder, codec_folder = model.locate(), codec.locate()
    with START_TIMES.part("weights and warm-up"):
        return HiggsEngine.load(
            model_folder, codec_folder, model=model_id(settings), device=device, options=options
        )


def _require_cuda(torch: Any) -> None:
    """Raise `ModelError` in words if no CUDA device can be used: none there, an old driver, an old card."""
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        if major < AMPERE:
            name = torch.cuda.get_device_name()
            raise ModelError(
                f"{name} has compute capability {major}.{minor}: bfloat16 needs Ampere (8.0) or newer"
            )
        return
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        found = re.search(r"driver .*too old \(found version (\d+)\)", str(error))
        if found:
            supported = f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}"
            raise ModelError(
                f"the NVIDIA driver here supports CUDA {supported} at most, and this"
                f" PyTorch is built for CUDA {torch.version.cuda}: choose machines with that CUDA version or"
                " newer (RunPod: the endpoint's setting), or update the driver"
            ) from None
    raise ModelError("no CUDA device can be seen, and WORKER_DEVICE or --device asks for cuda")
