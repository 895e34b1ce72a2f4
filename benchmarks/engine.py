"""Speed of the engine beside transformers' `generate()` in one run, with random weights.

    python benchmarks/engine.py                        the published size, on a CUDA device
    python benchmarks/engine.py --device cpu --size mid --slots 1 4 16

The engine comes first, each row printed as soon as it is known, then `generate()` with as many
prompts as slots. On the CPU durations are CPU seconds of one thread, and only their ratios mean
anything. `measure_gpu.sh` measures a GPU in more detail.
"""

from __future__ import annotations

import argparse
import tempfile
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

ENGINE_HEADER = (
    "| slots | frames/s | x real time | of the roofline | prefill uncached ms | cached ms | codec share |"
)
GENERATE_HEADER = "| prompts | generate() frames/s | engine's ratio to it |"


class Benchmark:
    """One size on one device, with its checkpoints in a folder."""

    def __init__(self, device: torch.device, size: str, steps: int, folder: Path) -> None:
        self.clock = Clock(device)
        self.device = device
        self.size = size
        self.steps = steps
        self.folder = folder
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
        if self.device.type == "cuda":
            runner.capture()
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

    def print_engine(self, all_slots: list[int]) -> dict[int, float]:
        """Print the engine's table and a step's operations; frames a second by number of slots."""
        from gpu_worker.higgs.decoder import Decoder
        from gpu_worker.higgs.model_runner import ModelRunner

        bandwidth = copy_bandwidth(self.clock)
        decoder = Decoder(self.load_language_model(), device=self.device, max_positions=self.slot_length)
        print(ENGINE_HEADER + "\n" + "|---" * 7 + "|", flush=True)
        speeds: dict[int, float] = {}
        for slots in all_slots:
            try:
                speeds[slots], row = self.engine_row(decoder, slots, bandwidth)
            except torch.OutOfMemoryError:
                row = f"| {slots} | does not fit |" + " |" * 5
            print(row, flush=True)
        runner = ModelRunner(decoder, slots=1, slot_length=self.slot_length, prefix_bytes=0)
        operations = step_operations(runner)
        print(f"\nOperations of a step: {operations}, launched as one graph on a CUDA device.\n", flush=True)
        return speeds

    def print_generate(self, engine_speeds: dict[int, float]) -> None:
        """Print the table of `generate()`, the fastest of the tries with as many prompts as slots."""
        model = make_language_model(self.size, self.device)
        print(GENERATE_HEADER + "\n" + "|---" * 3 + "|", flush=True)
        for batch, engine_speed in engine_speeds.items():
            try:
                speed = batch / min(
                    generate_step_seconds(self.clock, model, batch, self.context, self.steps)
                    for _ in range(TRIES)
                )
            except torch.OutOfMemoryError:
                print(f"| {batch} | does not fit | |", flush=True)
            else:
                print(f"| {batch} | {speed:.0f} | {engine_speed / speed:.2f} |", flush=True)
        operations = generate_operations(self.clock, model, self.context)
        print(f"\nOperations of a step: {operations:.0f}, launched one by one.", flush=True)

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

    def run(self, all_slots: list[int]) -> None:
        """Measure everything and print it as Markdown."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "one CPU thread"
        print(f"\n{name}, torch {torch.__version__}, size {self.size}, {self.context} tokens in a slot,")
        print(f"{self.steps} steps timed, sampled at temperature 0.3, top-k 50, top-p 0.95\n")
        speeds = self.print_engine(all_slots)
        self.print_load(all_slots[len(all_slots) // 2])
        self.print_generate(speeds)


def main() -> None:
    """Read the arguments and run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default=None)
    parser.add_argument("--slots", type=int, nargs="+", default=None)
    parser.add_argument("--steps", type=int, default=None)
    options = parser.parse_args()
    cpu = options.device == "cpu"
    if cpu:
        torch.set_num_threads(1)
    size = options.size or ("mid" if cpu else "full")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(
            torch.device(options.device), size, options.steps or (32 if cpu else 256), Path(folder)
        )
        benchmark.run(options.slots or ([1, 4, 16] if cpu else [1, 8, 32, 64, 128]))


if __name__ == "__main__":
    main()
