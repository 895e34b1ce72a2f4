"""Opens the engine that the settings choose, and names its model id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_worker.checkpoints.source import ModelError, find_source
from gpu_worker.checkpoints.source import model_id as higgs_model_id
from gpu_worker.engine_protocol import Engine
from gpu_worker.settings import WorkerSettings
from narration.contract import DRAFT_MODEL

if TYPE_CHECKING:
    from gpu_worker.higgs.engine import HiggsEngine

HIGGS_SLOTS = 32  # gpu_worker/README.md has the memory they need


def model_id(settings: WorkerSettings) -> str:
    """The model id that requests to this worker carry; raises `ModelError` if no checkpoint is chosen."""
    if settings.engine == "draft":
        return DRAFT_MODEL
    return higgs_model_id(find_source("model", settings.model), find_source("codec", settings.codec))


def open_engine(settings: WorkerSettings) -> Engine:
    """Load the engine, ready for requests; raises `ModelError` if its checkpoint cannot be loaded."""
    return _open_draft(settings) if settings.engine == "draft" else open_higgs(settings)


# Each engine is imported where it is opened: the draft engine needs no torch, Higgs no espeak-ng.


def _open_draft(settings: WorkerSettings) -> Engine:
    from gpu_worker.draft.engine import DEFAULT_SLOTS, DraftEngine  # noqa: PLC0415 -- see the comment above

    return DraftEngine(slots=settings.slots or DEFAULT_SLOTS, voice_cache=settings.voice_cache)


def open_higgs(settings: WorkerSettings) -> HiggsEngine:
    """Load Higgs Audio V2, whatever `settings.engine` says.

    Raises `ModelError` for a checkpoint that cannot be loaded, and for a CUDA device that
    is set and cannot be seen.
    """
    model, codec = find_source("model", settings.model), find_source("codec", settings.codec)

    import torch  # noqa: PLC0415 -- see the comment above

    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device can be seen, and WORKER_DEVICE or --device asks for cuda")

    from gpu_worker.higgs.engine import EngineOptions, HiggsEngine  # noqa: PLC0415 -- see the comment above

    options = EngineOptions(
        slots=settings.slots or HIGGS_SLOTS,
        slot_length=settings.slot_length,
        prefix_cache_bytes=settings.prefix_cache_mb << 20,
        voices=settings.voice_cache,
        compile_sampler=settings.compile_sampler,
        attention=settings.attention,
    )
    return HiggsEngine.load(
        model.locate(),
        codec.locate(),
        model=model_id(settings),
        device=device,
        options=options,
    )
