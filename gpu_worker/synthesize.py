"""The engine without RunPod: prompts on the command line, a WAV file and its figures for each."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_worker.open_engine import open_higgs
from gpu_worker.settings import WorkerSettings, settings_with
from gpu_worker.voices import VoiceLoader, check
from narration.audio.files import encode_clip
from narration.contract import ContractError, ErrorCode, SynthesisRequest, parse_request

if TYPE_CHECKING:
    # torch takes seconds to import; whatever is wrong with the options is said before.
    from gpu_worker.higgs.engine import HiggsEngine, Spoken


def run(options: argparse.Namespace, settings: WorkerSettings) -> list[str]:
    """Speak every prompt, all of them in the engine together; write those that succeed to `--out`.

    Returns one line for each prompt that failed. Raises `ModelError` for checkpoints that cannot
    be served, `ContractError` for options no request can have, `OSError` for files.
    """
    transcript = options.voice_transcript or settings.voice_sample_transcript
    requests = [_request(prompt, options, transcript) for prompt in options.prompt]
    given = {name: getattr(options, name) for name in ("model", "codec", "slots", "device")}
    settings = settings_with(settings, **given)
    options.out.mkdir(parents=True, exist_ok=True)
    engine = open_higgs(settings)
    spoken = asyncio.run(_speak(engine, requests, settings))
    failures = []
    for number, (request, outcome) in enumerate(zip(requests, spoken, strict=True), 1):
        if isinstance(outcome, ContractError):
            failures.append(f"prompt {number}: {outcome} ({outcome.failure.error_code})")
        else:
            _write(options.out / f"{number:03}", request, outcome, model=engine.model)
    return failures


def _request(prompt: str, options: argparse.Namespace, transcript: str | None) -> SynthesisRequest:
    """The request that a client would send for `prompt`, checked as a client's is."""
    fields: dict[str, object] = {
        "prompt": prompt,
        "max_new_tokens": options.max_new_tokens,
        "seed": options.seed,
    }
    if options.voice_sample is not None:
        if transcript is None:
            raise ContractError(ErrorCode.TRANSCRIPT_MISSING, "--voice-transcript: say what the sample says")
        sample = options.voice_sample.read_bytes()
        check(sample, transcript, None)  # here, and not when a model has been loaded for it
        fields["audio_base64"] = base64.b64encode(sample).decode()
        fields["audio_transcript"] = transcript
    if options.greedy:
        fields |= {"temperature": 0, "ras_win_len": 0}
    return parse_request({name: value for name, value in fields.items() if value is not None})


async def _speak(
    engine: HiggsEngine, requests: Sequence[SynthesisRequest], settings: WorkerSettings
) -> list[Spoken | ContractError]:
    voices = VoiceLoader(fetch_timeout=settings.fetch_timeout, allow_private_urls=settings.allow_private_urls)
    try:
        said = (engine.say(request, voices.of(request)) for request in requests)
        outcomes = await asyncio.gather(*said, return_exceptions=True)
    finally:
        await engine.drain()
    told: list[Spoken | ContractError] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ContractError):
            raise outcome
        told.append(outcome)
    return told


def _write(stem: Path, request: SynthesisRequest, spoken: Spoken, *, model: str) -> None:
    utterance = spoken.utterance
    figures = {
        "prompt": request.prompt,
        "model": model,
        "frames": utterance.frames,
        "finish_reason": utterance.finish_reason,
        "seed": utterance.seed,
        "timings": utterance.timings.model_dump(),
        "prompt_ids": spoken.prompt_ids,
        "codes": spoken.codes.tolist(),
    }
    stem.with_suffix(".wav").write_bytes(encode_clip(utterance.waveform, "wav"))
    stem.with_suffix(".json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
