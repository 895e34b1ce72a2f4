"""How fast the engine speaks, beside transformers' `generate()` in the same run, on random weights.

    python benchmarks/engine.py                        the published size on a CUDA device
    python benchmarks/engine.py --device cpu --size mid --rows 1 4 16

Weights are random: speed does not depend on what they say, and no download is needed. Clips never
end by themselves, so every row is busy to the last step. On the CPU times are CPU seconds of one
thread, which a shared machine does not stretch; there only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The tests' checkpoint makers, at other sizes.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

FRAME_RATE = 25
CONTEXT = 1200  # tokens that a row holds when its decoding is timed: 28 s of voice, a text, half a clip
TRIES = 5  # of which the fastest counts, for both sides alike
TEXT = 100  # tokens of a chunk's own text

PUBLISHED: dict[str, Any] = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
SIZES: dict[str, dict[str, Any]] = {
    "full": PUBLISHED,
    "mid": PUBLISHED
    | {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 8}
    | {"num_attention_heads": 9, "num_key_value_heads": 3},
    "deep": PUBLISHED
    | {"hidden_size": 96, "intermediate_size": 256}
    | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32},
}
PUBLISHED_CODEC: dict[str, Any] = {
    "codebook_dim": 64,
    "acoustic_model_config": {
        "model_type": "dac",
        "encoder_hidden_size": 64,
        "decoder_hidden_size": 1024,
        "hidden_size": 256,
        "downsampling_ratios": [8, 5, 4, 2, 3],
        "upsampling_ratios": [8, 5, 4, 2, 3],
    },
    "semantic_model_config": {"model_type": "hubert", "mask_time_prob": 0.0},
}


class Bench:
    """One device, one size, and the clock that suits the device."""

    def __init__(self, device: str, size: str, steps: int) -> None:
        self.device = torch.device(device)
        self.size = size
        self.steps = steps
        self.context = CONTEXT if size == "full" else 300
        self.length = 2048 if size == "full" else 384

    def now(self) -> float:
        """Seconds: of this process's work on the CPU, or on the wall once the device has done its work."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Time that `work` takes, to its end on the device."""
        before = self.now()
        work()
        return self.now() - before

    def make(self, folder: Path) -> None:
        """Write random checkpoints of model and codec, in the layout of the published ones."""
        from support.tiny_codec import write_tiny_codec
        from support.tiny_higgs import tiny_config, write_tiny_tokenizer
        from transformers import GenerationConfig, HiggsAudioV2ForConditionalGeneration

        cuda = self.device.type == "cuda"
        torch.set_default_dtype(torch.bfloat16 if cuda else torch.float32)
        with self.device:
            model = HiggsAudioV2ForConditionalGeneration(tiny_config(**SIZES[self.size]))
            with torch.no_grad():
                model.audio_lm_head.weight.view(8, 1026, -1)[:, 1024:] = 0  # never likely: no row ends early
        torch.set_default_dtype(torch.float32)
        ends = {"eos_token_id": model.config.eos_token_id, "pad_token_id": model.config.pad_token_id}
        model.generation_config = GenerationConfig(**ends)
        model.save_pretrained(folder / "model")
        write_tiny_tokenizer(folder / "model")
        write_tiny_codec(folder / "codec", **(PUBLISHED_CODEC if self.size == "full" else {}))

    def prompt(self, voice: int, text: int, seed: int) -> Any:
        """A prompt of `voice` tokens of audio in its prefix, and `text` of its own."""
        from gpu_worker.higgs.prompt import Prompt, Segment

        draw = np.random.default_rng(seed)
        stream = draw.integers(0, 1024, (voice, 8)).astype(np.int16)
        heard = Segment(np.full(voice, 128_016), stream)
        return Prompt((Segment(draw.integers(0, 300, 60)), heard), (Segment(draw.integers(0, 300, text)),))

    def generate(self, folder: Path, rows: int) -> tuple[float, float]:
        """Frames a second of `generate()` once it decodes, all rows together, and operations a step."""
        from transformers import HiggsAudioV2ForConditionalGeneration, StoppingCriteriaList

        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        model = HiggsAudioV2ForConditionalGeneration.from_pretrained(folder / "model", dtype=dtype)
        model = model.to(self.device).eval()
        ids = torch.randint(0, 300, (rows, self.context), device=self.device)
        ids[:, -1] = model.config.audio_bos_token_id

        def speak(steps: int) -> list[float]:
            times: list[float] = []

            def note(ids: torch.Tensor, _scores: Any) -> torch.Tensor:
                times.append(self.now())
                return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

            with torch.inference_mode():
                model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=steps,
                    do_sample=True,
                    temperature=0.3,
                    top_k=50,
                    top_p=0.95,
                    stopping_criteria=StoppingCriteriaList([note]),
                )
            return times

        tries = [speak(8 + self.steps) for _ in range(TRIES)]
        operations = _operations(partial(speak, 4)) - _operations(partial(speak, 2))
        return rows * self.steps / min(times[-1] - times[7] for times in tries), operations / 2

    def runner(self, decoder: Any, rows: int) -> Any:
        """A model runner of `rows` slots, captured where there are graphs."""
        from gpu_worker.higgs.model_runner import ModelRunner

        runner = ModelRunner(decoder, slots=rows, slot_length=self.length, prefix_bytes=1 << 30)
        if self.device.type == "cuda":
            runner.capture()
        return runner

    def sequences(self, rows: int) -> Iterator[Any]:
        """One request a row, which together hold `context` tokens when half the steps are done."""
        from gpu_worker.higgs.sampler import Sampling
        from gpu_worker.higgs.sequence import Sequence

        for row in range(rows):
            sampling = Sampling(0.3, 50, 0.95, seed=row, ras_window=7, ras_repeats=2)
            voice = self.context - 60 - TEXT - self.steps // 2
            sequence = Sequence(self.prompt(voice, TEXT, seed=0), sampling, self.steps + 64)
            sequence.slot = row
            yield sequence

    def operations(self, decoder: Any) -> int:
        """Operations a step, were they launched one by one."""
        from gpu_worker.higgs.model_runner import ModelRunner

        runner = ModelRunner(decoder, slots=1, slot_length=self.length, prefix_bytes=0)
        with torch.inference_mode():
            return _operations(runner._step)  # noqa: SLF001  # what the graph holds, without the graph

    def decode(self, runner: Any, rows: int) -> tuple[float, float, float]:
        """Frames a second; seconds to prefill a request, its voice's prefix not remembered and remembered."""
        sequences = list(self.sequences(rows))
        runner.admit(sequences[0])
        runner.forget_prefixes()
        cold = self.seconds(lambda: runner.admit(sequences[0]))
        warm = min(self.seconds(lambda: runner.admit(sequences[0])) for _ in range(3))
        elapsed = []
        for _ in range(TRIES):
            for sequence in sequences:
                runner.admit(sequence)
            runner.run(sequences, 8)
            elapsed.append(self.seconds(lambda: runner.run(sequences, self.steps).first_ends()))
        return rows * self.steps / min(elapsed), cold, warm

    def codec(self, folder: Path, rows: int) -> float:
        """Seconds of work for each second of audio, when as many clips as rows are decoded together."""
        from gpu_worker.higgs.codec import Codec

        codec = Codec.load(folder / "codec", self.device)
        frames = 250 if self.device.type == "cuda" else 84
        clips = [
            np.random.default_rng(row).integers(0, 1024, (8, frames)).astype(np.int16) for row in range(rows)
        ]
        codec.decode(clips[:1])
        return self.seconds(lambda: codec.decode(clips)) / (rows * frames / FRAME_RATE)

    def bandwidth(self) -> float:
        """Bytes a second that the device's memory was seen to move, reading and writing; 0 for the host's."""
        if self.device.type == "cpu":
            return 0.0
        source = torch.empty(1 << 30, dtype=torch.int32, device=self.device)
        target = torch.empty_like(source)
        target.copy_(source)
        fastest = min(self.seconds(lambda: target.copy_(source)) for _ in range(5))
        return float(2 * source.nbytes / fastest)

    def step_bytes(self, decoder: Any, rows: int) -> int:
        """What a step must read: the audio path's weights once, and every row's cache."""
        return int(decoder.step_bytes + rows * self.context * decoder.token_bytes)


async def _under_load(engine: Any, requests: int, cap: int) -> tuple[float, float, float]:
    """Wall seconds of the whole, and the means of a request's seconds: whole, and in prefill and decode."""
    from narration.contract import SynthesisRequest

    async def say(seed: int) -> Any:
        text = f"Request number {seed} says a sentence of ordinary length, and is done."
        return await engine.speak(SynthesisRequest(prompt=text, seed=seed, max_new_tokens=cap), None)

    before = time.perf_counter()
    timings = [one.timings for one in await asyncio.gather(*map(say, range(requests)))]
    wall = time.perf_counter() - before
    await engine.drain()
    whole = sum(one.total - one.queue for one in timings) / requests
    return wall, whole, sum(one.prefill + one.decode for one in timings) / requests


def _operations(work: Callable[[], Any]) -> int:
    """How many operations `work` asks of the device, views left out: a launch each, but in a graph."""

    class Count(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        seen = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.seen += not func.is_view
            return func(*args, **kwargs or {})

    with Count() as count:
        work()
    return int(count.seen)


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of device memory at the most"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB of memory at the most"


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default=None)
    parser.add_argument("--rows", type=int, nargs="+", default=None)
    parser.add_argument("--steps", type=int, default=None)
    asked = parser.parse_args()
    cpu = asked.device == "cpu"
    if cpu:
        torch.set_num_threads(1)
    bench = Bench(asked.device, asked.size or ("mid" if cpu else "full"), asked.steps or (32 if cpu else 256))
    with tempfile.TemporaryDirectory() as folder:
        _report(bench, Path(folder), asked.rows or ([1, 4, 16] if cpu else [1, 8, 32, 64, 128]))


def _report(bench: Bench, folder: Path, all_rows: list[int]) -> None:
    from gpu_worker.higgs.decoder import Decoder
    from gpu_worker.higgs.engine import EngineOptions, HiggsEngine
    from gpu_worker.higgs.load_model import load_language_model

    bench.make(folder)
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "one CPU thread"
    print(f"\n{name}, torch {torch.__version__}, size {bench.size}, {bench.context} tokens a row, ")
    print(f"{bench.steps} steps timed, sampled at temperature 0.3, top-k 50, top-p 0.95\n")
    theirs = {rows: bench.generate(folder, rows) for rows in all_rows}
    reached = bench.bandwidth()
    model = load_language_model(folder / "model", bench.device)
    decoder = Decoder(model, device=bench.device, max_positions=bench.length)
    print(
        "| rows | frames/s | x real time | of the roofline | generate() frames/s | ratio | prefill cold ms "
        "| prefill warm ms | codec share |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rows in all_rows:
        try:
            ours, cold, warm = bench.decode(bench.runner(decoder, rows), rows)
        except torch.OutOfMemoryError:
            print(f"| {rows} | does not fit | | | | | | | |")
            continue
        roofline = reached / bench.step_bytes(decoder, rows) * rows
        share = f"{100 * ours / roofline:.0f} %" if roofline else ""
        codec = bench.codec(folder, rows)
        print(
            f"| {rows} | {ours:.0f} | {ours / FRAME_RATE:.1f} | {share} | {theirs[rows][0]:.0f} "
            f"| {ours / theirs[rows][0]:.2f} | {1000 * cold:.0f} | {1000 * warm:.0f} "
            f"| {100 * codec / (codec + FRAME_RATE / ours):.0f} % |"
        )
    print(
        f"\nOperations a step: {bench.operations(decoder)}, which a graph makes one launch on a CUDA device; "
        f"in generate() {theirs[all_rows[0]][1]:.0f}, launched one by one."
    )
    del decoder
    slots = all_rows[len(all_rows) // 2]
    load = bench.seconds(lambda: load_language_model(folder / "model", bench.device))
    options = EngineOptions(slots=slots, slot_length=bench.length, prefix_cache_bytes=1 << 29, voices=64)
    engines: list[HiggsEngine] = []
    whole = bench.seconds(
        lambda: engines.append(
            HiggsEngine.load(
                folder / "model", folder / "codec", model="bench", device=str(bench.device), options=options
            )
        )
    )
    wall, request, engine = asyncio.run(_under_load(engines[0], 3 * slots, bench.steps + 32))
    print(
        f"\n{load:.1f} s to read the weights from the page cache, {whole:.1f} s until ready to speak. "
        f"{3 * slots} requests through {slots} slots in {wall:.1f} s; of a request's {request:.2f} s behind "
        f"the queue, {100 * engine / request:.0f} % in prefill and decode. {_memory(bench.device)}."
    )


if __name__ == "__main__":
    main()
