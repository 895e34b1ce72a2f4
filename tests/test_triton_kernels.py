"""Kernels in Triton: equal to the plain operations in the interpreter; compiled for real cards."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.hub import run_python

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton comes with PyTorch for CUDA; pip install triton brings it"
)

INTERPRET = """
import json
import torch
from gpu_worker.higgs.attention_choice import AttentionShape, trial_error
from gpu_worker.higgs.attention import CacheLengths, attend_decode as plain
from gpu_worker.higgs.triton_attention import attend_decode, choose_splits
from functools import partial

results = {"trials": []}
for slots, heads, kv_heads, head_dim, splits in [
    (1, 24, 8, 128, 16), (3, 24, 8, 128, 2), (5, 4, 2, 16, 1), (4, 9, 3, 64, 8), (2, 16, 1, 32, 4)
]:
    shape = AttentionShape(slots, heads, kv_heads, head_dim, torch.float32)
    kernel = partial(attend_decode, splits=splits)
    results["trials"].append(trial_error(kernel, shape, torch.device("cpu")))

# One slot alone, and beside others with other lengths, whose unused tokens hold what would spoil it.
torch.manual_seed(0)
query, cache = torch.randn(3, 6, 32), torch.randn(3, 200, 2, 2, 32)
lengths = torch.tensor([130, 1, 200], dtype=torch.int32)
beside = attend_decode(query, cache, CacheLengths.of(lengths, 200), splits=4)
cache[0, 130:] = float("inf")
cache[1:] = 7
others = torch.tensor([130, 64, 3], dtype=torch.int32)
again = attend_decode(query, cache, CacheLengths.of(others, 200), splits=4)
results["same"] = bool(torch.equal(beside[0], again[0]))
results["splits"] = [choose_splits(slots, 8, 132) for slots in (1, 8, 32, 64)]
print(json.dumps(results))
"""

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gpu_worker.higgs import triton_attention as kernels

pointers = {f"{name}_pointer": "*bf16" for name in ("query", "cache", "out")} | {"length_pointer": "*i32"}
pointers |= {f"{name}_pointer": "*fp32" for name in ("sum", "peak", "total")}
numbers = {"scale": "fp32", "query_stride": "i32", "cache_stride": "i32"}
constants = {"GROUP": 3, "KV_HEADS": 8, "HEAD_DIM": 128, "SPLITS": 2}
constants |= {"BLOCK": kernels.BLOCK, "TILE": kernels.TILE}
for capability in (80, 86, 89, 90):
    for kernel in (kernels._attend_split, kernels._join_splits):
        known = {name: value for name, value in constants.items() if name in kernel.arg_names}
        signature = {name: (pointers | numbers).get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, known)
        built = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        print(capability, kernel.fn.__name__, len(built.asm["cubin"]), built.metadata.shared)
"""


def run(code: str, **environment: object) -> str:
    triton = Path(str(find_spec("triton").origin)).parents[1]  # type: ignore[union-attr]  # it is installed
    done = run_python("-c", code, PYTHONPATH=f"{ROOT}:{triton}", OMP_NUM_THREADS=1, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_kernel_equals_plain_attention() -> None:
    """Several heads, lengths and splits in float32; a slot's result depends on no other slot."""
    results = json.loads(run(INTERPRET, TRITON_INTERPRET=1))
    assert max(results["trials"]) < 1e-5
    assert results["same"]
    assert results["splits"] == [16, 8, 2, 1]


SNAKE = """
import torch
from gpu_worker.higgs.triton_snake import snake

hidden, alpha = 3 * torch.randn(2, 5, 1500), torch.rand(1, 5, 1) + 0.1
plain = hidden + (alpha + 1e-9).reciprocal() * torch.sin(alpha * hidden).pow(2)
print(float((snake(hidden, alpha) - plain).abs().max()))
"""


def test_the_fused_snake_equals_the_plain_one() -> None:
    """The codec's activation in one kernel: the same samples but for rounding."""
    assert float(run(SNAKE, TRITON_INTERPRET=1)) < 1e-5


def test_the_kernel_compiles_for_the_cards_in_use(tmp_path: Path) -> None:
    """For Ampere, Ada and Hopper, within the shared memory of a multiprocessor; no card is needed for it."""
    built = [line.split() for line in run(COMPILE, TRITON_CACHE_DIR=tmp_path, HOME=tmp_path).splitlines()]
    assert [(int(capability), name) for capability, name, *_ in built] == [
        (capability, name) for capability in (80, 86, 89, 90) for name in ("_attend_split", "_join_splits")
    ]
    assert all(int(size) > 0 for _, _, size, _ in built)
    assert max(int(shared) for *_, shared in built) <= 99 * 1024
