"""Prompts from the command line to WAV and JSON files, by the Higgs engine without RunPod."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_worker.open_engine import open_higgs
from gpu_worker.settings import WorkerSettings, override_settings
from gpu_worker.voices import VoiceLoader, check
from narration.audio.files import encode_clip
from narration.contract import ContractError, ErrorCode, SynthesisRequest, parse_request

if TYPE_CHECKING:
    # torch takes seconds to import; errors in the options are reported before that.
    from gpu_worker.higgs.engine import HiggsEngine, TracedUtterance


def run(options: argparse.Namespace, settings: WorkerSettings) -> list[str]:
    """Synthesize every prompt at once; write each success to `--out` as `001.wav` and `001.json`.

    Returns one line for each prompt that failed. Raises `ModelError` for checkpoints that cannot
    be loaded, `ContractError` for options that no request may have, `OSError` for files.
    """
    transcript = options.voice_transcript or settings.voice_sample_transcript
    requests = [_request(prompt, options, transcript) for prompt in options.prompt]
    flags = {name: getattr(options, name) for name in ("model", "codec", "slots", "device")}
    settings = override_settings(settings, **flags)
    options.out.mkdir(parents=True, exist_ok=True)
    engine = open_higgs(settings)
    outcomes = asyncio.run(_synthesize_all(engine, requests, settings))
    failures = []
    for number, (request, outcome) in enumerate(zip(requests, outcomes, strict=True), 1):
        if isinstance(outcome, ContractError):
            failures.append(f"prompt {number}: {outcome} ({outcome.failure.error_code})")
        else:
            _write(options.out / f"{number:03}", request, outcome, model=engine.model)
    return failures


def _request(prompt: str, options: argparse.Namespace, transcript: str | None) -> SynthesisRequest:
    """The request for `prompt`, checked as a client's request is."""
    fields: dict[str, object] = {
        "prompt": prompt,
        "max_new_tokens": options.max_new_tokens,
        "seed": options.seed,
    }
    if options.voice_sample is not None:
        if transcript is None:
            raise ContractError(ErrorCode.TRANSCRIPT_MISSING, "--voice-transcript: say what the sample says")
        sample = options.voice_sample.read_bytes()
        check(sample, transcript, None)  # now, rather than after the model has been loaded
        fields["audio_base64"] = base64.b64encode(sample).decode()
        fields["audio_transcript"] = transcript
    if options.greedy:
        fields |= {"temperature": 0, "ras_win_len": 0}
    return parse_request({name: value for name, value in fields.items() if value is not None})


async def _synthesize_all(
    engine: HiggsEngine, requests: Sequence[SynthesisRequest], settings: WorkerSettings
) -> list[TracedUtterance | ContractError]:
    voices = VoiceLoader(fetch_timeout=settings.fetch_timeout, allow_private_urls=settings.allow_private_urls)
    try:
        utterances = (engine.synthesize_traced(request, voices.of(request)) for request in requests)
        results = await asyncio.gather(*utterances, return_exceptions=True)
    finally:
        await engine.drain()
    outcomes: list[TracedUtterance | ContractError] = []
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ContractError):
            raise result
        outcomes.append(result)
    return outcomes


def _write(stem: Path, request: SynthesisRequest, traced: TracedUtterance, *, model: str) -> None:
    utterance = traced.utterance
    report = {
        "prompt": request.prompt,
        "model": model,
        "frames": utterance.frames,
        "finish_reason": utterance.finish_reason,
        "seed": utterance.seed,
        "timings": utterance.timings.model_dump(),
        "prompt_ids": traced.prompt_ids,
        "codes": traced.codes.tolist(),
    }
    stem.with_suffix(".wav").write_bytes(encode_clip(utterance.waveform, "wav"))
    stem.with_suffix(".json").write_text(json.dumps(report) + "\n", encoding="utf-8")
