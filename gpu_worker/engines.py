"""Which engine the settings ask for: its model id, and the engine itself."""

from __future__ import annotations

from dataclasses import replace

from gpu_worker.models import model_id as higgs_model_id
from gpu_worker.models import source
from gpu_worker.settings import WorkerSettings
from gpu_worker.speaker import Speaker
from narration.contract import DRAFT_MODEL


def model_id(settings: WorkerSettings) -> str:
    """The id that requests to this worker carry; raises `ModelError` where no checkpoint is chosen."""
    if settings.engine == "draft":
        return DRAFT_MODEL
    return higgs_model_id(source("model", settings.model), source("codec", settings.codec))


def open_speaker(settings: WorkerSettings) -> Speaker:
    """Load the engine, ready to speak; raises `ModelError` where its checkpoint cannot be had."""
    return _open_draft(settings) if settings.engine == "draft" else _open_higgs(settings)


# Each engine is imported where it is opened: the draft needs no torch, Higgs no espeak-ng.


def _open_draft(settings: WorkerSettings) -> Speaker:
    from gpu_worker.draft import DEFAULT_SLOTS, DraftSpeaker  # noqa: PLC0415 -- as said above

    return DraftSpeaker(slots=settings.slots or DEFAULT_SLOTS, voice_cache=settings.voice_cache)


def _open_higgs(settings: WorkerSettings) -> Speaker:
    import torch  # noqa: PLC0415 -- as said above

    from gpu_worker.engine import EngineOptions, HiggsEngine  # noqa: PLC0415 -- as said above

    options = EngineOptions(voices=settings.voice_cache)
    if settings.slots is not None:
        options = replace(options, slots=settings.slots)
    return HiggsEngine.load(
        source("model", settings.model).locate(),
        source("codec", settings.codec).locate(),
        model=model_id(settings),
        device=settings.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        options=options,
    )
