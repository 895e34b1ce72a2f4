"""Speed of the engine's parts on a GPU: decode steps, prefill, codec, the whole engine, `generate()`."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_timing import (
    FRAME_RATE,
    Clock,
    copy_bandwidth,
    generate_step_seconds,
    load_engine_with,
    prefill_seconds,
    step_seconds,
)
from gpu_profile import count_waits, profile_step
from gpu_setup import Setup
from random_model import make_language_model, model_config, random_sequences, write_codec, write_tokenizer
from stage_report import Report

from gpu_worker.engine_protocol import Waveform
from gpu_worker.higgs.codec import WINDOW_FRAMES, Codec
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.delay_pattern import Codes
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.prompt import PromptBuilder
from gpu_worker.higgs.scheduler import Scheduler


class Stages:
    """The stages' work. `build` makes the decoder and `codec` the codec that later stages use."""

    def __init__(self, setup: Setup, report: Report) -> None:
        self.setup = setup
        self.decoder: Decoder | None = None
        self._report = report
        self._clock = Clock(setup.device)
        self._bandwidth = 0.0
        self._codec: Codec | None = None

    def machine(self) -> None:
        """Note versions, the card, its memory's speed and the time of a kernel that does nothing."""
        import transformers

        figures: dict[str, Any] = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
        if self.setup.cuda:
            card = torch.cuda.get_device_properties(0)
            self._bandwidth = copy_bandwidth(self._clock)
            figures |= {
                "card": card.name,
                "multiprocessors": card.multi_processor_count,
                "memory_gb": round(card.total_memory / 1e9, 1),
                "copy_tb_per_s": round(self._bandwidth / 1e12, 2),
            }
        self._report.note("machine", **figures)

    def build(self) -> None:
        """Make random weights of the size in the device's memory, and the decoder from them."""
        model = make_language_model(self.setup.size, self.setup.device)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.decoder = Decoder(model, device=self.setup.device, max_positions=self.setup.slot_length)
        self._report.note("random weights", parameters=parameters, **self._memory())

    def decode(self, slots: int) -> None:
        """Note the speed of a step with `slots` slots, with and without graph, and of a prefill."""
        setup, clock = self.setup, self._clock
        runner = self._runner(slots)
        sequences = random_sequences(slots, context=setup.context, steps=setup.steps)
        uncached, cached = prefill_seconds(clock, runner, sequences[0])
        for sequence in sequences:
            runner.admit(sequence)
        eager = clock.seconds(lambda: runner.run(sequences, 1), tries=5)
        if setup.cuda and slots == setup.slot_counts[0]:
            for method, places in count_waits(runner, sequences).items():
                self._report.note("host waits for the device", method=method, places=places)
        runner.prepare()
        step = step_seconds(clock, runner, sequences, setup.steps)
        assert self.decoder is not None
        step_bytes = self.decoder.step_bytes + slots * setup.context * self.decoder.token_bytes
        share = {"roofline_share": round(step_bytes / self._bandwidth / step, 3)} if self._bandwidth else {}
        self._report.note(
            "decode",
            slots=slots,
            frames_per_s=round(slots / step),
            x_real_time=round(slots / step / FRAME_RATE, 1),
            step_ms=round(1e3 * step, 3),
            **share,
            eager_step_ms=round(1e3 * eager, 3),
            prefill_uncached_ms=round(1e3 * uncached, 2),
            prefill_cached_ms=round(1e3 * cached, 2),
            attention=runner.configuration["attention"],
            sampler=runner.configuration["sampler"],
            **self._memory(),
        )
        if setup.cuda and slots in {1, 32}:
            figures = profile_step(runner, self._report.folder / f"trace_{slots}.json.gz")
            self._report.note("profile of a step", slots=slots, **figures)

    def codec(self) -> None:
        """Note the codec's speed: windows decoded together, in TF32 too, and a voice sample encoded."""
        setup, clock = self.setup, self._clock
        with tempfile.TemporaryDirectory() as folder:
            self._codec = codec = Codec.load(write_codec(setup.size, Path(folder)), setup.device)
        random = np.random.default_rng(3)
        for windows in (1, 4, 16) if setup.cuda else (1,):
            clips = [random.integers(0, 1024, (8, WINDOW_FRAMES)).astype(np.int16) for _ in range(windows)]
            figures = self._codec_decode(codec, clips)
            self._report.note("codec decode", windows=windows, **figures, **self._memory())
        codec.prepare()
        for windows in (1, 4, 16) if setup.cuda else ():
            clips = [random.integers(0, 1024, (8, WINDOW_FRAMES)).astype(np.int16) for _ in range(windows)]
            codec.decode(clips)
            recorded = self._clock.seconds(partial(codec.decode, clips), tries=3)
            figures = {"ms": round(1e3 * recorded, 2)}
            self._report.note(
                "codec decode", windows=windows, recorded=True, **figures, **codec.configuration
            )
        seconds = 28 if setup.size == "full" else 1
        sample = (0.1 * random.standard_normal(seconds * 24_000)).astype(np.float32)
        codec.encode(sample)
        encode = clock.seconds(lambda: codec.encode(sample), tries=3)
        self._report.note(
            "codec encode", seconds_of_audio=seconds, ms=round(1e3 * encode, 1), **self._memory()
        )

    def _codec_decode(self, codec: Codec, clips: list[Codes]) -> dict[str, float]:
        """Milliseconds of decoding `clips`; on a GPU also in TF32, and its signal-to-noise ratio."""

        def decode() -> Waveform:
            return codec.decode(clips)[0]

        exact = decode()
        figures = {"ms": round(1e3 * self._clock.seconds(decode, tries=3), 2)}
        if self.setup.cuda:
            torch.backends.cudnn.allow_tf32 = True
            rounded = decode()
            figures["tf32_ms"] = round(1e3 * self._clock.seconds(decode, tries=3), 2)
            torch.backends.cudnn.allow_tf32 = False
            noise = max(1e-30, float(((exact - rounded) ** 2).sum()))
            figures["tf32_snr_db"] = round(10 * float(np.log10((exact**2).sum() / noise)), 1)
        return figures

    def codec_beside_decode(self) -> None:
        """Note how much decode steps slow down while the codec decodes all the time."""
        assert self._codec is not None
        codec, slots = self._codec, self.setup.slot_counts[-1]
        runner = self._runner(slots)
        runner.prepare()
        sequences = random_sequences(slots, context=self.setup.context, steps=self.setup.steps)
        alone = step_seconds(self._clock, runner, sequences, self.setup.steps)
        frames = 300 if self.setup.cuda else 20
        clips = [np.full((8, frames), 5, dtype=np.int16) for _ in range(4)]
        stop, decoded = threading.Event(), [0]

        def decode_until_stopped() -> None:
            while not stop.is_set():
                codec.decode(clips)
                decoded[0] += len(clips) * frames

        thread = threading.Thread(target=decode_until_stopped)
        thread.start()
        try:
            began, decoded[0], durations = time.perf_counter(), 0, []
            for _ in range(6):
                before = time.perf_counter()
                runner.run(sequences, 16).first_ends()
                durations.append((time.perf_counter() - before) / 16)
            codec_speed = decoded[0] / (time.perf_counter() - began)
        finally:
            stop.set()
            thread.join()
        self._report.note(
            "decode beside the codec",
            slots=slots,
            step_ms_alone=round(1e3 * alone, 3),
            step_ms_beside=round(1e3 * statistics.median(durations), 3),
            codec_frames_per_s=round(codec_speed),
        )

    def engine(self, slots: int, requests: int, max_new_tokens: int) -> None:
        """Note the whole engine's speed, with `requests` requests at once."""
        assert self._codec is not None
        config = model_config(self.setup.size)
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder))
            prompts = PromptBuilder.load(
                Path(folder),
                audio_token_id=config.audio_token_id,
                audio_delay_token_id=config.audio_delay_token_id,
            )
        options = EngineOptions(
            slots=slots, slot_length=self.setup.slot_length, prefix_cache_bytes=1 << 29, voices=64
        )
        fatal: list[BaseException] = []
        began = time.perf_counter()
        engine = HiggsEngine(
            Scheduler(slots),
            self._runner(slots),
            prompts,
            self._codec,
            model="bench",
            options=options,
            on_fatal=fatal.append,  # fails this stage, where the worker would exit
        )
        ready = time.perf_counter() - began
        times = load_engine_with(engine, requests, max_new_tokens)
        self._report.note(
            "engine",
            slots=slots,
            requests=requests,
            frames_per_s=round(times.frames / times.wall),
            x_real_time=round(times.frames / times.wall / FRAME_RATE, 1),
            share_in_prefill_and_decode=round(times.engine / times.total, 3),
            warm_up_s=round(ready, 2),
            **self._memory(),
        )

    def generate(self) -> None:
        """Note the speed of transformers' `generate()` with one prompt, for comparison."""
        self.decoder = None  # both models together need not fit
        model = make_language_model(self.setup.size, self.setup.device)
        step = generate_step_seconds(self._clock, model, 1, self.setup.context, 32 if self.setup.cuda else 4)
        self._report.note("generate()", prompts=1, step_ms=round(1e3 * step, 2), frames_per_s=round(1 / step))

    def _runner(self, slots: int) -> ModelRunner:
        assert self.decoder is not None
        return ModelRunner(
            self.decoder, slots=slots, slot_length=self.setup.slot_length, prefix_bytes=1 << 29
        )

    def _memory(self) -> dict[str, float]:
        """Device memory in GB: the most allocated so far, and what is used on the card now."""
        if not self.setup.cuda:
            return {}
        free, total = torch.cuda.mem_get_info()
        return {
            "max_allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
            "used_on_card_gb": round((total - free) / 1e9, 2),
        }
