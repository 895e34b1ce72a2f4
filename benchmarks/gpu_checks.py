"""Whether the engine computes on a GPU what it computes on the CPU: kernels, logits, CUDA graph."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_model import random_prompt
from stage_report import Report

from gpu_worker.higgs.attention import CacheLengths, attend_decode, attend_prefill
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.load_model import load_language_model
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence

CPU = torch.device("cpu")
SLOTS, SLOT_LENGTH, STEPS = 3, 256, 24
MAX_KERNEL_ERROR = 1e-2  # relative, of bfloat16 against float32
MAX_LOGITS_ERROR = 3e-2

# Small, with the published head dimension and heads for each key head.
_CHANGES: dict[str, Any] = {
    "head_dim": 128,
    "hidden_size": 384,
    "intermediate_size": 512,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def check_attention(report: Report, device: torch.device) -> None:
    """Note the relative error of both attention kernels in bfloat16 against the CPU's in float32."""
    torch.manual_seed(0)
    for heads, kv_heads, head_dim in ((24, 8, 128), (4, 2, 16)):
        query = torch.randn(4, heads, head_dim).bfloat16()
        cache = torch.randn(4, 512, 2, kv_heads, head_dim).bfloat16()
        lengths = torch.tensor([1, 17, 300, 512], dtype=torch.int32)
        expected = attend_decode(query.float(), cache.float(), CacheLengths.of(lengths, 512))
        actual = attend_decode(query.to(device), cache.to(device), CacheLengths.of(lengths.to(device), 512))
        decode_error = relative_error(actual, expected)

        query, cache = torch.randn(20, heads, head_dim).bfloat16(), cache[0, :96]
        expected = attend_prefill(query.float(), cache.float())
        prefill_error = relative_error(attend_prefill(query.to(device), cache.to(device)), expected)
        report.note(
            "attention against float32",
            head_dim=head_dim,
            decode_error=round(decode_error, 5),
            prefill_error=round(prefill_error, 5),
            sound=max(decode_error, prefill_error) < MAX_KERNEL_ERROR,
        )


def check_codes(report: Report, device: torch.device) -> None:
    """Note the logits' error against the CPU's, and whether the CUDA graph gives the step's codes."""
    cpu, other = _load_decoders(device)
    expected, actual = _logits(cpu), _logits(other)
    errors = [relative_error(one, two) for one, two in zip(actual, expected, strict=True)]
    same_code = (actual.argmax(-1) == expected.argmax(-1)).float().mean()
    report.note(
        "logits against float32",
        first_error=round(errors[0], 5),
        worst_error=round(max(errors), 5),
        same_likeliest_code=round(float(same_code), 3),
        sound=max(errors) < MAX_LOGITS_ERROR,
    )
    if device.type == "cuda":
        pairs = zip(_streams(other, captured=False), _streams(other, captured=True), strict=True)
        report.note("graph against step", same_codes=all(np.array_equal(one, two) for one, two in pairs))


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of `expected`."""
    return float((actual.cpu().float() - expected.float()).norm() / expected.float().norm())


def _load_decoders(device: torch.device) -> tuple[Decoder, Decoder]:
    """The same small random weights twice: on the CPU in float32, and on `device`."""
    from support.tiny_higgs import write_tiny_higgs

    with tempfile.TemporaryDirectory() as folder:
        write_tiny_higgs(Path(folder), **_CHANGES)
        decoders = [
            Decoder(load_language_model(Path(folder), where), device=where, max_positions=SLOT_LENGTH)
            for where in (CPU, device)
        ]
    return decoders[0], decoders[1]


def _runner(decoder: Decoder) -> ModelRunner:
    return ModelRunner(decoder, slots=SLOTS, slot_length=SLOT_LENGTH, prefix_bytes=0)


def _logits(decoder: Decoder) -> torch.Tensor:
    """Logits [steps, slots, 8, 1026] on the host, each step after the same random codes."""
    runner, prompt = _runner(decoder), random_prompt(60, 40)
    for slot in range(SLOTS):
        runner.admit(Sequence(prompt, Sampling(0, 1, 1, 0, 0, 0), STEPS, slot=slot))
    if decoder.device.type == "cuda":
        torch.cuda.synchronize()  # the runner's stream is another one
    forced = torch.from_numpy(np.random.default_rng(5).integers(0, 1024, (STEPS, SLOTS, 8)))
    first = torch.full((SLOTS,), len(prompt.ids), device=decoder.device)
    logits = []
    with torch.inference_mode():
        for step, codes in enumerate(forced):
            position = first + step
            lengths = (position + 1).to(torch.int32)
            logits.append(decoder.decode(codes.to(decoder.device), position, lengths, runner.cache).cpu())
    return torch.stack(logits)


def _streams(decoder: Decoder, *, captured: bool) -> list[np.ndarray[Any, Any]]:
    """Sampled streams [steps, 8] of three sequences, by the CUDA graph or by the step itself."""
    runner = _runner(decoder)
    if captured:
        runner.capture()
    sequences = [
        Sequence(random_prompt(60, 9 + slot), Sampling(0.3, 50, 0.95, slot, 7, 2), 80, slot=slot)
        for slot in range(SLOTS)
    ]
    for sequence in sequences:
        runner.admit(sequence)
    runner.run(sequences, 80)
    return [runner.stream(sequence).get() for sequence in sequences]
