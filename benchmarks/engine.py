"""Speed of the engine beside transformers' `generate()` in one run, with random weights.

    python benchmarks/engine.py                        the published size, on a CUDA device
    python benchmarks/engine.py --device cpu --size mid --slots 1 4 16

The engine comes first, each row printed as soon as it is known, then `generate()`: with as many
prompts as slots on the CPU, with one prompt on CUDA. A row or part that fails or takes too long
says so in its place and ends no other; the exit status is then 1. On the CPU durations are CPU
seconds of one thread, and only their ratios mean anything. `measure_gpu.sh` measures a GPU in more
detail.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from engine_timing import (
    FRAME_RATE,
    TRIES,
    Clock,
    codec_seconds,
    copy_bandwidth,
    generate_operations,
    generate_step_seconds,
    load_engine_with,
    prefill_seconds,
    step_operations,
    step_seconds,
)
from random_model import SIZES, make_language_model, random_sequences, write_codec, write_tokenizer
from stage_report import run_within

ENGINE_HEADER = (
    "| slots | frames/s | x real time | of the roofline | prefill uncached ms | cached ms | codec share |"
)
GENERATE_HEADER = "| prompts | generate() frames/s | engine's ratio to it |"


class Benchmark:
    """One size on one device, with its checkpoints in a folder; `limit` is in seconds, of a row or part."""

    def __init__(
        self, device: torch.device, size: str, steps: int, folder: Path, *, limit: float = 300
    ) -> None:
        self.failed = False
        self.clock = Clock(device)
        self.device = device
        self.size = size
        self.steps = steps
        self.folder = folder
        self._limit = limit
        self.context = 1200 if size == "full" else 300  # tokens in a slot while its steps are timed
        self.slot_length = 2048 if size == "full" else 384
        make_language_model(size, device).save_pretrained(folder / "model")
        write_tokenizer(folder / "model")
        write_codec(size, folder / "codec")

    def engine_row(self, decoder: Any, slots: int, bandwidth: float) -> tuple[float, str]:
        """Frames a second of the engine with `slots` slots, and its table row."""
        from gpu_worker.higgs.codec import Codec
        from gpu_worker.higgs.model_runner import ModelRunner

        runner = ModelRunner(decoder, slots=slots, slot_length=self.slot_length, prefix_bytes=1 << 30)
        runner.prepare()
        sequences = random_sequences(slots, context=self.context, steps=self.steps)
        uncached, cached = prefill_seconds(self.clock, runner, sequences[0])
        frames_per_second = slots / step_seconds(self.clock, runner, sequences, self.steps)
        step_bytes = decoder.step_bytes + slots * self.context * decoder.token_bytes
        roofline = slots * bandwidth / step_bytes
        share = f"{100 * frames_per_second / roofline:.0f} %" if roofline else ""
        codec = Codec.load(self.folder / "codec", self.device)
        codec_time = codec_seconds(self.clock, codec, slots, 250 if self.device.type == "cuda" else 84)
        codec_share = codec_time / (codec_time + FRAME_RATE / frames_per_second)
        return frames_per_second, (
            f"| {slots} | {frames_per_second:.0f} | {frames_per_second / FRAME_RATE:.1f} | {share} "
            f"| {1000 * uncached:.0f} | {1000 * cached:.0f} | {100 * codec_share:.0f} % |"
        )

    def print_engine(self, all_slots: list[int], speeds: dict[int, float]) -> None:
        """Print the engine's table and a step's operations; add frames a second by slots to `speeds`."""
        from gpu_worker.higgs.decoder import Decoder
        from gpu_worker.higgs.model_runner import ModelRunner

        bandwidth = copy_bandwidth(self.clock)
        decoder = Decoder(self.load_language_model(), device=self.device, max_positions=self.slot_length)
        print(ENGINE_HEADER + "\n" + "|---" * 7 + "|", flush=True)

        def measure(slots: int) -> str:
            speeds[slots], row = self.engine_row(decoder, slots, bandwidth)
            return row

        for slots in all_slots:
            self.print_row(slots, 7, partial(measure, slots))
        runner = ModelRunner(decoder, slots=1, slot_length=self.slot_length, prefix_bytes=0)
        operations = step_operations(runner)
        attention = runner.configuration["attention"]
        print(f"\nOperations of a step: {operations}, launched as one graph on a CUDA device;", end=" ")
        print(f"attention {attention}.\n", flush=True)

    def print_generate(self, batches: list[int], engine_speeds: dict[int, float]) -> None:
        """Print the table of `generate()` with each number of prompts, the fastest of the tries."""
        model = make_language_model(self.size, self.device)
        print(GENERATE_HEADER + "\n" + "|---" * 3 + "|", flush=True)
        for batch in batches:
            self.print_row(batch, 3, partial(self.generate_row, model, batch, engine_speeds.get(batch)))
        operations = generate_operations(self.clock, model, self.context)
        print(f"\nOperations of a step: {operations:.0f}, launched one by one.", flush=True)

    def generate_row(self, model: Any, batch: int, engine_speed: float | None) -> str:
        """The row of `generate()` with `batch` prompts, beside the engine's frames a second."""
        measure = partial(generate_step_seconds, self.clock, model, batch, self.context, self.steps)
        speed = batch / min(measure() for _ in range(TRIES))
        ratio = f"{engine_speed / speed:.2f}" if engine_speed else ""
        return f"| {batch} | {speed:.0f} | {ratio} |"

    def print_row(self, first_cell: int, columns: int, measure: Callable[[], str]) -> None:
        """Print the row that `measure` returns, or one with the reason why there is none."""
        rows: list[str] = []
        reason = self.attempt(self.limited(lambda: rows.append(measure())))
        if reason:
            rows = [f"| {first_cell} | {reason} |" + " |" * (columns - 2)]
        print(rows[0], flush=True)

    def limited(self, work: Callable[[], object]) -> Callable[[], None]:
        """`work`, ended after the limit by an exception."""
        return partial(run_within, self._limit, work)

    def attempt(self, work: Callable[[], object]) -> str:
        """Do `work`; the reason why it failed, or nothing."""
        try:
            work()
        except torch.OutOfMemoryError:
            self.failed = True
            return "does not fit"
        except Exception as error:  # noqa: BLE001 -- the other rows and parts are measured whatever this one raised
            self.failed = True
            return " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return ""

    def load_language_model(self) -> Any:
        """The language model, read from the folder."""
        from gpu_worker.higgs.load_model import load_language_model

        return load_language_model(self.folder / "model", self.device)

    def print_load(self, slots: int) -> None:
        """Print how long the engine takes to load, and its requests under load."""
        from gpu_worker.higgs.engine import EngineOptions, HiggsEngine

        options = EngineOptions(
            slots=slots, slot_length=self.slot_length, prefix_cache_bytes=1 << 29, voices=64
        )
        engines: list[HiggsEngine] = []
        model_folder, codec_folder = self.folder / "model", self.folder / "codec"
        read = self.clock.seconds(self.load_language_model)
        ready = self.clock.seconds(
            lambda: engines.append(
                HiggsEngine.load(
                    model_folder, codec_folder, model="bench", device=str(self.device), options=options
                )
            )
        )
        times = load_engine_with(engines[0], 3 * slots, self.steps + 32)
        print(
            f"{read:.1f} s to read the weights from the page cache, {ready:.1f} s to load the engine. "
            f"{3 * slots} requests through {slots} slots in {times.wall:.1f} s; of a request's "
            f"{times.total:.2f} s after the queue, {100 * times.engine / times.total:.0f} % in prefill and"
            " decode.\n"
        )
        if self.device.type == "cuda":
            print(f"At most {torch.cuda.max_memory_allocated() / 1e9:.1f} GB of device memory allocated.\n")

    def run(self, all_slots: list[int], prompts: list[int]) -> None:
        """Measure everything and print it as Markdown; a part that fails ends no other."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "one CPU thread"
        print(f"\n{name}, torch {torch.__version__}, size {self.size}, {self.context} tokens in a slot,")
        print(f"{self.steps} steps timed, sampled at temperature 0.3, top-k 50, top-p 0.95\n")
        speeds: dict[int, float] = {}
        parts: dict[str, Callable[[], object]] = {
            "the engine": lambda: self.print_engine(all_slots, speeds),
            "loading and load": self.limited(lambda: self.print_load(all_slots[len(all_slots) // 2])),
            "generate()": lambda: self.print_generate(prompts, speeds),
        }
        for name, print_part in parts.items():
            if reason := self.attempt(print_part):
                print(f"\nNot measured: {name} ({reason})\n", flush=True)


def main() -> int:
    """Read the arguments and run the benchmark; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default=None)
    parser.add_argument("--slots", type=int, nargs="+", default=None)
    parser.add_argument("--prompts", type=int, nargs="*", default=None, help="of generate()")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--limit", type=float, default=300, help="seconds for each row and part")
    options = parser.parse_args()
    cpu = options.device == "cpu"
    if cpu:
        torch.set_num_threads(1)
    size = options.size or ("mid" if cpu else "full")
    slots = options.slots or ([1, 4, 16] if cpu else [1, 8, 32, 64, 128])
    prompts = options.prompts if options.prompts is not None else (slots if cpu else [1])
    steps = options.steps or (32 if cpu else 256)
    with tempfile.TemporaryDirectory() as folder:
        device = torch.device(options.device)
        benchmark = Benchmark(device, size, steps, Path(folder), limit=options.limit)
        benchmark.run(slots, prompts)
    return 1 if benchmark.failed else 0


if __name__ == "__main__":
    sys.exit(main())
