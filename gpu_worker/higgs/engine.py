"""The engine: Higgs Audio V2 speaking many chunks at a time, behind the `Speaker` protocol.

Requests come and go on the event loop; one thread steps the model; another has the codec.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
import transformers

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.engine_protocol import SampleLoader, Utterance
from gpu_worker.higgs.codec import WINDOW, Codec
from gpu_worker.higgs.codec_thread import CodecThread
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.delay_pattern import CODEBOOKS, MIN_STEPS, Codes, undelay
from gpu_worker.higgs.load_model import load_language_model
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.prompt import PromptBuilder, Turn
from gpu_worker.higgs.request_builder import RequestBuilder
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence
from gpu_worker.higgs.step_loop import StepLoop
from narration.contract import SAMPLE_RATE, ContractError, ErrorCode, SynthesisRequest, Timings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Sizes, all of them fixed when the engine loads.

    A slot holds one request's prompt, voice and speech, in tokens; 25 are a second of audio.
    """

    slots: int
    slot_length: int
    prefix_cache_bytes: int  # of the device's memory; a voice of 30 s takes 100 MB
    voices: int  # encoded voice samples kept, of some 11 kB each


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """An utterance and what it was made from: `codes` [8, frames], and the prompt's token ids."""

    utterance: Utterance
    codes: Codes
    prompt_ids: list[int]


def exit_process(error: BaseException) -> None:
    """End the process with status 1, now: the platform then starts a worker on a sound device."""
    log.critical("the device or the engine is lost (%s): exiting", type(error).__name__)
    os._exit(1)


class HiggsEngine:
    """A `Speaker`. Load it with `HiggsEngine.load`; it has then spoken once, to warm up."""

    def __init__(
        self,
        runner: ModelRunner,
        prompts: PromptBuilder,
        codec: Codec,
        *,
        model: str,
        options: EngineOptions,
        on_fatal: Callable[[BaseException], None] = exit_process,
    ) -> None:
        self.model = model
        self.slots = options.slots
        self.facts: dict[str, str | int | float | bool] = {
            "engine": "higgs",
            **runner.facts,
            "slots": options.slots,
            "slot_length": options.slot_length,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }
        self._vocoder = CodecThread(codec)
        self._preparer = RequestBuilder(
            prompts, self._vocoder, slot_length=options.slot_length, voices=options.voices
        )
        self._on_fatal = on_fatal
        self._loop = StepLoop(runner, slots=options.slots, on_fatal=on_fatal)
        self._draining = False
        self._speaking = 0
        self._warm_up(runner, prompts, codec)
        self._loop.start()

    @classmethod
    def load(
        cls,
        model_folder: Path,
        codec_folder: Path,
        *,
        model: str,
        device: str,
        options: EngineOptions,
        on_fatal: Callable[[BaseException], None] = exit_process,
    ) -> HiggsEngine:
        """Load both checkpoints on `device` ("cuda" or "cpu") and warm up; `model` is the id to answer for.

        Raises `ModelError` for checkpoints that cannot be served, and for slots that do not fit.
        """
        transformers.utils.logging.disable_progress_bar()  # a log is no terminal
        where = torch.device(device)
        language_model = load_language_model(model_folder, where)
        config = language_model.config
        prompts = PromptBuilder.load(
            model_folder,
            audio_token_id=config.audio_token_id,
            audio_delay_token_id=config.audio_delay_token_id,
        )
        try:
            codec = Codec.load(codec_folder, where)
            runner = ModelRunner(
                Decoder(language_model, device=where, max_positions=options.slot_length),
                slots=options.slots,
                slot_length=options.slot_length,
                prefix_bytes=options.prefix_cache_bytes,
            )
            return cls(runner, prompts, codec, model=model, options=options, on_fatal=on_fatal)
        except (torch.OutOfMemoryError, ContractError) as error:
            size = f"{options.slots} slots of {options.slot_length} tokens"
            raise ModelError(f"{size} do not fit into the memory of {device}: set fewer slots") from error

    async def speak(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """See `Speaker.speak`."""
        return (await self.say(request, sample)).utterance

    async def say(self, request: SynthesisRequest, sample: SampleLoader | None) -> Spoken:
        """Speak `request`, and tell the codes and the prompt too. Raises and cancels as `speak` does."""
        if self._draining:
            raise ContractError(ErrorCode.SHUTTING_DOWN, "the worker is shutting down")
        self._speaking += 1
        try:
            return await self._say(request, sample)
        except torch.OutOfMemoryError:
            raise ContractError(ErrorCode.OUT_OF_MEMORY, "the worker ran out of device memory") from None
        except torch.AcceleratorError as error:
            self._on_fatal(error)
            raise ContractError(ErrorCode.ENGINE_FAILURE, "the worker's device failed") from None
        finally:
            self._speaking -= 1

    async def drain(self) -> None:
        """See `Speaker.drain`."""
        self._draining = True
        while self._speaking:  # noqa: ASYNC110  # RunPod's event loop, in which they speak, may not be this one
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self._loop.stop)
        await asyncio.to_thread(self._vocoder.close)

    async def _say(self, request: SynthesisRequest, sample: SampleLoader | None) -> Spoken:
        began = perf_counter()
        prompt, steps = await self._preparer.prepare(request, sample)
        sampling = _sampling(request)
        sequence = Sequence(prompt, sampling, steps)
        self._loop.submit(sequence)
        pending = await asyncio.wrap_future(sequence.outcome)
        codes, ended = undelay(await asyncio.to_thread(pending.get))
        if codes.shape[1] == 0:
            raise ContractError(ErrorCode.ENGINE_FAILURE, "the model ended the clip before its first frame")
        decoding = perf_counter()
        waveform = await self._vocoder.decode(codes)
        done = perf_counter()
        prefill = sequence.prefill.seconds()
        timings = Timings(
            voice=sequence.queued_at - began,
            queue=sequence.admitted_at - sequence.queued_at,
            prefill=prefill,
            decode=max(0.0, decoding - sequence.admitted_at - prefill),
            codec=done - decoding,
            total=done - began,
        )
        reason: Literal["stop", "length"] = "stop" if ended else "length"
        utterance = Utterance(waveform, codes.shape[1], reason, sampling.seed, timings)
        return Spoken(utterance, codes, prompt.ids)

    def _warm_up(self, runner: ModelRunner, prompts: PromptBuilder, codec: Codec) -> None:
        """Speak once in a cloned voice: libraries load their kernels now, not in somebody's request."""
        began = perf_counter()
        if runner.device.type == "cuda":
            runner.capture()
        noise = np.random.default_rng(0).normal(scale=0.1, size=SAMPLE_RATE).astype(np.float32)
        voice = Turn("One, two, three.", codec.encode(noise))
        prompt = prompts.build("Hello.", system="", voice=voice, previous=voice)
        greedy = Sampling(temperature=0, top_k=1, top_p=1, seed=0, ras_window=0, ras_repeats=0)
        self._loop.speak(Sequence(prompt, greedy, MIN_STEPS))
        runner.forget_prefixes()
        codec.decode([np.zeros((CODEBOOKS, WINDOW), dtype=np.int16)])
        log.info("warm after %.1f s", perf_counter() - began)


def _sampling(request: SynthesisRequest) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        seed=secrets.randbits(32) if request.seed is None else request.seed,
        ras_window=request.ras_win_len,
        ras_repeats=request.ras_win_max_num_repeat,
    )
