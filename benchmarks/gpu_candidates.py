"""What each choice of the engine gains on a GPU: attention kernels, compiled sampler, fused layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from engine_timing import Clock
from gpu_checks import relative_error
from gpu_setup import Setup
from random_model import random_sequences
from stage_report import Report
from torch.nn import functional

from gpu_worker.higgs.attention import CacheLengths, attend_decode
from gpu_worker.higgs.attention_choice import Attend, AttentionName, attention_kernels
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.step_trial import compile_advance

_CACHE_BYTES = 256 << 20  # attended in one measurement, so that no cache is still in the card's L2 cache

LAYER_METHODS = ("_project", "_feed_forward")
"""The decoder's methods that torch.compile would fuse, each into a few kernels; the worker does not."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run the decode step."""

    name: str
    attention: AttentionName
    compile_sampler: bool = False
    compile_layers: bool = False


def measure_products(report: Report, clock: Clock, decoder: Decoder, slots: int) -> None:
    """Note the speed at which a step's matrix products read their weights."""
    for name in ("qkv", "out", "gate_up", "down"):
        weights = [_matrix(layer, name) for layer in decoder.layers]
        hidden = torch.randn(slots, weights[0].shape[1], device=decoder.device, dtype=decoder.dtype)

        def multiply(hidden: torch.Tensor = hidden, weights: list[torch.Tensor] = weights) -> None:
            for weight in weights:
                functional.linear(hidden, weight)

        seconds = _graph_seconds(clock, multiply) / len(weights)
        report.note("matrix product", slots=slots, of=name, **_speed(seconds, weights[0].nbytes))


def measure_attention(report: Report, clock: Clock, decoder: Decoder, slots: int, slot_length: int) -> None:
    """Note the speed at which each attention kernel reads the cache, and its error."""
    like = {"device": decoder.device, "dtype": decoder.dtype}
    shape = (slots, slot_length, 2, decoder.kv_heads, decoder.head_dim)
    token_bytes = 2 * decoder.kv_heads * decoder.head_dim * decoder.dtype.itemsize
    layers = -(-_CACHE_BYTES // (slots * slot_length * token_bytes)) if decoder.device.type == "cuda" else 1
    caches = torch.randn(layers, *shape, **like)
    query = torch.randn(slots, decoder.heads, decoder.head_dim, **like)
    for first, last in ((0.25, 0.25), (0.5, 0.5), (0.95, 0.95), (0.2, 0.9)):
        lengths = torch.linspace(first, last, slots, device=decoder.device) * slot_length
        cache_lengths = CacheLengths.of(lengths.to(torch.int32), slot_length)
        expected = attend_decode(query, caches[0], cache_lengths).cpu()
        for kernel in attention_kernels(decoder.attention_shape(slots), decoder.device):

            def attend_layers(attend: Attend = kernel.attend, lengths: CacheLengths = cache_lengths) -> None:
                for cache in caches:
                    attend(query, cache, lengths)

            seconds = _graph_seconds(clock, attend_layers) / layers
            report.note(
                "attention",
                kernel=kernel.name,
                slots=slots,
                tokens=f"{first * slot_length:.0f} to {last * slot_length:.0f}",
                **_speed(seconds, int(lengths.sum()) * token_bytes),
                error=round(relative_error(kernel.attend(query, caches[0], cache_lengths), expected), 5),
            )


def measure_variants(report: Report, clock: Clock, setup: Setup, decoder: Decoder, slots: int) -> None:
    """Note a step's duration as compiled sampler, Triton's attention and compiled layers are added."""
    kernels = {kernel.name for kernel in attention_kernels(decoder.attention_shape(slots), decoder.device)}
    slowest: AttentionName = "flash" if "flash" in kernels else "plain"
    fastest: AttentionName = "triton" if "triton" in kernels else slowest
    variants = [
        Variant("plain", slowest),
        Variant("sampler compiled", slowest, compile_sampler=True),
        Variant(f"and attention {fastest}", fastest, compile_sampler=True),
        Variant("and layers compiled", fastest, compile_sampler=True, compile_layers=True),
    ]
    expected: torch.Tensor | None = None
    for variant in variants:
        logits, figures = _measure_variant(variant, clock, setup, decoder, slots)
        expected = logits if expected is None else expected
        report.note(
            "variant",
            slots=slots,
            change=variant.name,
            **figures,
            logits_error=round(relative_error(logits, expected), 5),
        )


def _measure_variant(
    variant: Variant, clock: Clock, setup: Setup, decoder: Decoder, slots: int
) -> tuple[torch.Tensor, dict[str, Any]]:
    """The logits of the first step, on the host, and the figures of the variant."""
    runner = ModelRunner(
        decoder,
        slots=slots,
        slot_length=setup.slot_length,
        prefix_bytes=1 << 29,
        attention=variant.attention,
    )
    sequences = random_sequences(slots, context=setup.context, steps=setup.steps)
    steps = setup.steps // 4  # few enough that no slot is finished before the last try
    began = time.perf_counter()
    with _compiled(variant, backend="inductor" if setup.cuda else "aot_eager"):
        runner.prepare(compile_sampler=variant.compile_sampler)
        clock.now()
        compiled = time.perf_counter() - began
        for sequence in sequences:
            runner.admit(sequence)
        logits = _next_logits(runner)
        step = clock.seconds(lambda: runner.run(sequences, steps), tries=3) / steps
    return logits, {
        "step_ms": round(1e3 * step, 3),
        "frames_per_s": round(slots / step),
        "prepare_s": round(compiled, 1),
        "kernels": f"{runner.configuration['attention']}, sampler {runner.configuration['sampler']}",
    }


def _matrix(layer: Any, name: str) -> torch.Tensor:
    matrix: torch.Tensor = getattr(layer if name in {"qkv", "out"} else layer.audio, name)
    return matrix


def _speed(seconds: float, size: int) -> dict[str, float]:
    return {"us": round(1e6 * seconds, 2), "tb_per_s": round(size / seconds / 1e12, 2)}


def _graph_seconds(clock: Clock, work: Callable[[], None]) -> float:
    """Seconds of `work` replayed from a CUDA graph; on the CPU of `work` itself."""
    with torch.inference_mode():
        if clock.device.type == "cpu":
            return clock.seconds(work)
        warmup = torch.cuda.Stream()
        with torch.cuda.stream(warmup):
            work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        graph.replay()
        return clock.seconds(graph.replay, tries=7)


def _next_logits(runner: ModelRunner) -> torch.Tensor:
    """Logits of the step that comes next, on the host."""
    state = runner.state
    position = state.prompt_end + state.step
    lengths = (position + 1).to(torch.int32)
    if runner.device.type == "cuda":
        torch.cuda.synchronize()  # the runner's stream is another one
    with torch.inference_mode():
        attend = runner.attention.attend
        return runner.decoder.decode(state.last_codes, position, lengths, runner.cache, attend).cpu()


@contextmanager
def _compiled(variant: Variant, *, backend: str) -> Iterator[None]:
    """Inside this context steps run the variant's compiled layers; `backend` compiles the sampler too."""
    with ExitStack() as patches:
        compile_by = partial(compile_advance, backend)
        patches.enter_context(patch("gpu_worker.higgs.model_runner.compile_advance", compile_by))
        for name in LAYER_METHODS if variant.compile_layers else ():
            compiled = torch.compile(getattr(Decoder, name), dynamic=False, backend=backend)
            patches.enter_context(patch.object(Decoder, name, compiled))
        yield
