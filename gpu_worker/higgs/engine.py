"""Higgs engine: synthesizes many requests at a time with Higgs Audio V2, behind the `Engine` protocol.

Requests arrive on the event loop; the step loop's thread runs the model, another thread the codec.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
import transformers

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.engine_protocol import SampleLoader, Utterance
from gpu_worker.higgs.attention_choice import AttentionName
from gpu_worker.higgs.capacity import (
    DEFAULT_SLOT_LENGTH,
    DEFAULT_SLOTS,
    Capacity,
    MemoryTerms,
    choose_capacity,
    weight_bytes,
)
from gpu_worker.higgs.codec import WINDOW_FRAMES, WINDOWS_PER_BATCH, Codec
from gpu_worker.higgs.codec_thread import CodecThread
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.delay_pattern import CODEBOOKS, MIN_STEPS, Codes, undelay
from gpu_worker.higgs.device_loss import WINDOW_SECONDS, DeviceLoss, OnFatal, Watchdog, exit_process
from gpu_worker.higgs.load_model import load_language_model
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.prompt import EncodedSpeech, PromptBuilder
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.scheduler import Scheduler
from gpu_worker.higgs.sequence import Sequence
from gpu_worker.higgs.sequence_builder import SequenceBuilder
from gpu_worker.higgs.step_loop import StepLoop
from narration.contract import (
    FRAME_RATE,
    MAX_SAMPLE_SECONDS,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisRequest,
    Timings,
)

_WARM_UP_TOKENS = 250  # at most, of the warm-up's sequence beside its voice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Sizes that are fixed when the engine loads.

    A slot holds the tokens of one request: prompt, voice and speech, 25 for a second of audio.
    """

    slots: int | None  # None: what fits into the card's free memory; on the CPU 32
    slot_length: int | None  # likewise; on the CPU 2304
    prefix_cache_bytes: int  # of device memory; the prefix of a voice sample of 30 s takes 100 MB
    voices: int  # encoded voice samples kept, about 11 kB each
    launches_ahead: int | None = None  # see `StepLoop`; None: 1 on a CUDA device, 0 on the CPU
    window_limit: float | None = (
        None  # s, of one piece of work on the device; None: 30 on CUDA, none on the CPU
    )
    warm_up_at_peak: bool | None = None  # with a voice of 30 s and a full batch of windows; None: on CUDA
    codec_tf32: bool = False  # decode clips, on CUDA, with products of lower precision
    reserved_bytes: int = 0  # of device memory, for other models on the same card
    compile_sampler: bool | None = None  # None: on a CUDA device
    attention: AttentionName | None = None  # of a CUDA device; None: the best that passes its trial


@dataclass(frozen=True, slots=True, eq=False)
class TracedUtterance:
    """An utterance with its `codes` [8, frames] and the token ids of its prompt."""

    utterance: Utterance
    codes: Codes
    prompt_ids: list[int]


class HiggsEngine:
    """An `Engine` made of its parts; `HiggsEngine.load` makes the parts from checkpoints.

    The constructor synthesizes once, to warm up, and starts the step loop.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: ModelRunner,
        prompts: PromptBuilder,
        codec: Codec,
        *,
        model: str,
        options: EngineOptions,
        on_fatal: OnFatal = exit_process,
    ) -> None:
        self.model = model
        self.slots = scheduler.slots
        ahead = options.launches_ahead
        if ahead is None:
            ahead = 1 if runner.device.type == "cuda" else 0
        self._device_loss = DeviceLoss(on_fatal)
        window_limit = options.window_limit
        if window_limit is None and runner.device.type == "cuda":
            window_limit = WINDOW_SECONDS
        report = self._device_loss.report
        self._watchdog = Watchdog(window_limit, report)
        self._step_loop = StepLoop(
            scheduler, runner, launches_ahead=ahead, on_fatal=report, watchdog=self._watchdog
        )
        self._codec = CodecThread(codec, self._watchdog)
        self._sequences = SequenceBuilder(
            prompts, self._codec, slot_length=runner.slot_length, voices=options.voices
        )
        self._draining = False
        self._in_progress = 0
        self._warm_up(runner, prompts, codec, options)
        self.configuration: dict[str, str | int | float | bool] = {
            "engine": "higgs",
            **runner.configuration,
            **codec.configuration,
            "slots": scheduler.slots,
            "slot_length": runner.slot_length,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }
        self._step_loop.start()

    @classmethod
    def load(
        cls,
        model_folder: Path,
        codec_folder: Path,
        *,
        model: str,
        device: str,
        options: EngineOptions,
        on_fatal: OnFatal = exit_process,
    ) -> HiggsEngine:
        """Load both checkpoints on `device` ("cuda" or "cpu"); `model` is the engine's model id.

        Raises `ModelError` for checkpoints that cannot be loaded, and for slots that do not fit
        into the device's memory.
        """
        transformers.utils.logging.disable_progress_bar()  # progress bars fill a log file with lines
        target = torch.device(device)
        free = torch.cuda.mem_get_info(target)[0] if target.type == "cuda" else None
        language_model = load_language_model(model_folder, target)
        config = language_model.config
        prompts = PromptBuilder.load(
            model_folder,
            audio_token_id=config.audio_token_id,
            audio_delay_token_id=config.audio_delay_token_id,
        )
        capacity = Capacity(options.slots or DEFAULT_SLOTS, options.slot_length or DEFAULT_SLOT_LENGTH)
        try:
            codec = Codec.load(codec_folder, target)
            if free is not None:
                capacity = _capacity(language_model, codec, options, free)
            runner = ModelRunner(
                Decoder(language_model, device=target, max_positions=capacity.slot_length),
                slots=capacity.slots,
                slot_length=capacity.slot_length,
                prefix_bytes=options.prefix_cache_bytes,
                attention=options.attention,
            )
            scheduler = Scheduler(capacity.slots)
            return cls(scheduler, runner, prompts, codec, model=model, options=options, on_fatal=on_fatal)
        except (torch.OutOfMemoryError, ContractError) as error:
            size = f"{capacity.slots} slots of {capacity.slot_length} tokens"
            raise ModelError(f"{size} do not fit into the memory of {device}: set fewer slots") from error

    async def synthesize(self, request: SynthesisRequest, sample: SampleLoader | None) -> Utterance:
        """See `Engine.synthesize`."""
        return (await self.synthesize_traced(request, sample)).utterance

    async def synthesize_traced(
        self, request: SynthesisRequest, sample: SampleLoader | None
    ) -> TracedUtterance:
        """As `synthesize`, with the codes and the prompt's token ids."""
        if self._draining:
            raise ContractError(ErrorCode.SHUTTING_DOWN, "the worker is shutting down")
        self._in_progress += 1
        try:
            return await self._device_loss.run(self._synthesize(request, sample))
        except torch.OutOfMemoryError:
            raise ContractError(ErrorCode.OUT_OF_MEMORY, "the worker ran out of device memory") from None
        except torch.AcceleratorError as error:
            self._device_loss.report(error)
            raise ContractError(ErrorCode.ENGINE_FAILURE, "the worker's device failed") from None
        finally:
            self._in_progress -= 1

    async def drain(self) -> None:
        """See `Engine.drain`."""
        self._draining = True
        while self._in_progress:  # noqa: ASYNC110 -- the requests may run on another event loop: RunPod's
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self._step_loop.stop)
        await asyncio.to_thread(self._codec.close)
        self._watchdog.stop()

    async def _synthesize(self, request: SynthesisRequest, sample: SampleLoader | None) -> TracedUtterance:
        began = perf_counter()
        sequence = await self._sequences.build(request, sample)
        self._step_loop.submit(sequence)
        stream = await asyncio.wrap_future(sequence.future)
        codes, ended = undelay(await asyncio.to_thread(stream.get))
        if codes.shape[1] == 0:
            raise ContractError(ErrorCode.ENGINE_FAILURE, "the model ended the clip before its first frame")
        decoded = perf_counter()
        waveform = await self._codec.decode(codes)
        reason: Literal["stop", "length"] = "stop" if ended else "length"
        timings = _timings(sequence, began=began, decoded=decoded, done=perf_counter())
        utterance = Utterance(waveform, codes.shape[1], reason, sequence.sampling.seed, timings)
        return TracedUtterance(utterance, codes, sequence.prompt.ids)

    def _warm_up(
        self, runner: ModelRunner, prompts: PromptBuilder, codec: Codec, options: EngineOptions
    ) -> None:
        """Synthesize in a cloned voice, so that libraries load their kernels before the first request.

        At its peak: a voice of 30 s and a full batch of windows take here, at the start, the memory
        that they will take in a request.
        """
        began = perf_counter()
        at_peak = runner.device.type == "cuda" if options.warm_up_at_peak is None else options.warm_up_at_peak
        runner.prepare(compile_sampler=options.compile_sampler)
        codec.prepare(tf32=options.codec_tf32)
        seconds = round(MAX_SAMPLE_SECONDS) if at_peak else 1
        noise = np.random.default_rng(0).normal(scale=0.1, size=seconds * SAMPLE_RATE).astype(np.float32)
        codes = codec.encode(noise)
        context = EncodedSpeech("One, two, three.", codes[:, :FRAME_RATE])
        longest = max(FRAME_RATE, runner.slot_length - _WARM_UP_TOKENS)
        voice = EncodedSpeech("One, two, three.", codes[:, :longest])
        prompt = prompts.build("Hello.", system="", voice=voice, previous=context)
        greedy = Sampling(temperature=0, top_k=1, top_p=1, seed=0, ras_window=0, ras_repeats=0)
        self._step_loop.run_to_end(Sequence(prompt, greedy, MIN_STEPS))
        runner.clear_prefixes()
        window = np.zeros((CODEBOOKS, WINDOW_FRAMES), dtype=np.int16)
        codec.decode([window] * (WINDOWS_PER_BATCH if at_peak else 1))
        log.info("warmed up in %.1f s", perf_counter() - began)


def _capacity(language_model: Any, codec: Codec, options: EngineOptions, free: int) -> Capacity:
    """The slots for `free` bytes of the card, logged with the formula's terms."""
    config = language_model.config
    kv_values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    terms = MemoryTerms(
        weights=weight_bytes(language_model),
        codec=codec.weight_bytes,
        prefix_cache=options.prefix_cache_bytes,
        token=kv_values * language_model.dtype.itemsize,
        reserved=options.reserved_bytes,
    )
    capacity = choose_capacity(terms, free, slots=options.slots, slot_length=options.slot_length)
    log.info(
        "%.1f GB of the card were free: %s", free / 1e9, terms.describe(capacity.slots, capacity.slot_length)
    )
    return capacity


def _timings(sequence: Sequence, *, began: float, decoded: float, done: float) -> Timings:
    """Seconds of a request's stages, from points in time by `perf_counter`."""
    assert sequence.prefill_timer is not None, "a finished sequence was prefilled"
    prefill = sequence.prefill_timer.seconds()
    return Timings(
        voice=sequence.queued_at - began,
        queue=sequence.admitted_at - sequence.queued_at,
        prefill=prefill,
        decode=max(0.0, decoded - sequence.admitted_at - prefill),
        codec=done - decoded,
        total=done - began,
    )
