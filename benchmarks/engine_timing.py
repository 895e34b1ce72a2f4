"""Durations of the engine's parts: decode steps, prefill, codec, requests under load, `generate()`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

FRAME_RATE = 25
TRIES = 5  # of which the fastest counts


class Clock:
    """Measures work on one device: wall seconds on CUDA, CPU seconds of this process on the CPU.

    CPU seconds do not grow when other programs use the machine.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """Seconds, once the device has finished its queued work."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any], *, tries: int = 1) -> float:
        """The shortest duration of `work` in `tries` tries, to its end on the device."""
        durations = []
        for _ in range(tries):
            began = self.now()
            work()
            durations.append(self.now() - began)
        return min(durations)


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """Means over requests under load, in seconds; `wall` is from the first request to the last clip."""

    wall: float
    frames: int
    total: float  # of one request, without its time in the queue
    engine: float  # of one request, in prefill and decode


def step_seconds(clock: Clock, runner: Any, sequences: Sequence[Any], steps: int) -> float:
    """Seconds of one step of every slot, over `steps` steps after a prefill of all `sequences`."""
    durations = []
    for _ in range(TRIES):
        for sequence in sequences:
            runner.admit(sequence)
        runner.run(sequences, 8)
        durations.append(clock.seconds(lambda: runner.run(sequences, steps)))
    return min(durations) / steps


def prefill_seconds(clock: Clock, runner: Any, sequence: Any) -> tuple[float, float]:
    """Seconds of a prefill whose prefix is not cached, and of one whose prefix is."""
    runner.admit(sequence)
    runner.clear_prefixes()
    uncached = clock.seconds(lambda: runner.admit(sequence))
    return uncached, clock.seconds(lambda: runner.admit(sequence), tries=3)


def codec_seconds(clock: Clock, codec: Any, clips: int, frames: int) -> float:
    """Seconds of decoding for one second of audio, `clips` clips of `frames` frames together."""
    random = np.random.default_rng(0)
    codes = [random.integers(0, 1024, (8, frames)).astype(np.int16) for _ in range(clips)]
    codec.decode(codes[:1])
    return clock.seconds(lambda: codec.decode(codes)) / (clips * frames / FRAME_RATE)


def generate_step_seconds(clock: Clock, model: Any, batch: int, context: int, steps: int) -> float:
    """Seconds of one step of transformers' `generate()` with a batch of prompts of `context` tokens."""
    times = _generate(clock, model, batch, context, steps + 8)
    return (times[-1] - times[7]) / steps


def generate_operations(clock: Clock, model: Any, context: int) -> float:
    """Operations that one step of `generate()` launches, one by one."""
    four, two = (count_operations(partial(_generate, clock, model, 1, context, steps)) for steps in (4, 2))
    return (four - two) / 2


def step_operations(runner: Any) -> int:
    """Operations of one decode step; a CUDA graph launches them together."""
    return count_operations(lambda: runner.run((), 2)) - count_operations(lambda: runner.run((), 1))


def count_operations(work: Callable[[], Any]) -> int:
    """Number of operations that `work` asks of the device, without views."""

    class Counter(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        operations = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.operations += not func.is_view
            return func(*args, **kwargs or {})

    with Counter() as counter:
        work()
    return int(counter.operations)


def copy_bandwidth(clock: Clock) -> float:
    """Bytes a second that a copy moves in the device's memory, read and written; 0 on the CPU."""
    if clock.device.type == "cpu":
        return 0.0
    source = torch.empty(1 << 29, dtype=torch.int32, device=clock.device)
    target = torch.empty_like(source)
    target.copy_(source)
    return float(2 * source.nbytes / clock.seconds(lambda: target.copy_(source), tries=8))


def load_engine_with(engine: Any, requests: int, max_new_tokens: int) -> RequestTimes:
    """Send `requests` requests at once to `engine`, wait for all, and drain it."""
    from narration.contract import SynthesisRequest

    async def request(seed: int) -> Any:
        text = f"Request number {seed} says a sentence of ordinary length, and is done."
        fields = SynthesisRequest(prompt=text, seed=seed, max_new_tokens=max_new_tokens)
        return await engine.synthesize(fields, None)

    async def request_all() -> tuple[list[Any], float]:
        began = time.perf_counter()
        utterances = await asyncio.gather(*map(request, range(requests)))
        wall = time.perf_counter() - began
        await engine.drain()
        return utterances, wall

    utterances, wall = asyncio.run(request_all())
    timings = [utterance.timings for utterance in utterances]
    return RequestTimes(
        wall=wall,
        frames=sum(utterance.frames for utterance in utterances),
        total=mean(one.total - one.queue for one in timings),
        engine=mean(one.prefill + one.decode for one in timings),
    )


def _generate(clock: Clock, model: Any, batch: int, context: int, steps: int) -> list[float]:
    """Run `generate()` for `steps` steps; the time after each."""
    from transformers import StoppingCriteriaList

    ids = torch.randint(0, 300, (batch, context), device=clock.device)
    ids[:, -1] = model.config.audio_bos_token_id
    times: list[float] = []

    def note_time(ids: torch.Tensor, _scores: Any) -> torch.Tensor:
        times.append(clock.now())
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
            stopping_criteria=StoppingCriteriaList([note_time]),
        )
    return times
