"""Measures the engine on a GPU, stage by stage, each result written as soon as it is known.

    python benchmarks/measure_gpu.py --out DIR                 the published size on CUDA
    python benchmarks/measure_gpu.py --out DIR --device cpu    rehearsal: tiny weights, figures mean nothing

`measure_gpu.sh` calls it with everything that it needs on its path. Weights are random and made in
memory. A stage that fails or takes too long ends no other. DIR gets results.jsonl, table.md and, of
a GPU, traces of a step (trace_*.json.gz).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from engine_timing import Clock
from gpu_candidates import measure_attention, measure_products, measure_variants
from gpu_checks import check_attention, check_codes
from gpu_setup import Setup
from gpu_stages import Stages
from random_model import SIZES
from stage_report import Report

from gpu_worker.higgs.decoder import Decoder


def main() -> int:
    """Run every stage; the exit status is 1 if one failed or was not started."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", choices=SIZES, default=None, help="default: full on CUDA, tiny on the CPU")
    parser.add_argument("--seconds", type=float, default=480, help="for all stages together")
    options = parser.parse_args()
    torch.set_num_threads(8 if options.device == "cuda" else 1)
    size = options.size or ("full" if options.device == "cuda" else "tiny")
    setup = Setup(torch.device(options.device), size)
    report = Report(options.out, options.seconds, stage_limits=setup.cuda)
    run_stages(setup, report)
    if report.failed:
        print(f"not measured: {', '.join(report.failed)}")
    return 1 if report.failed else 0


def run_stages(setup: Setup, report: Report) -> None:
    """Correctness first, then the figures, the most valuable before the others."""
    stages, device = Stages(setup, report), setup.device
    slots, requests, max_new_tokens = (32, 96, 300) if setup.cuda else (3, 6, 20)
    report.run("machine", 40, stages.machine)
    report.run("attention against float32", 30, partial(check_attention, report, device))
    report.run("logits against float32", 60, partial(check_codes, report, device))
    report.run("random weights", 90, stages.build)
    for count in setup.slot_counts:
        report.run(f"decode {count} slots", 60, partial(stages.decode, count))
    report.run("codec decode", 60, stages.codec)
    report.run("decode beside the codec", 30, stages.codec_beside_decode)
    report.run("engine", 60, partial(stages.engine, slots, requests, max_new_tokens))
    if stages.decoder is not None:
        run_candidates(setup, report, stages.decoder)
    report.run("generate()", 60, stages.generate)


def run_candidates(setup: Setup, report: Report, decoder: Decoder) -> None:
    """What changes to the engine would gain."""
    clock = Clock(setup.device)
    for slots in setup.slot_counts:
        report.run(f"products {slots} slots", 15, partial(measure_products, report, clock, decoder, slots))
        attention = partial(measure_attention, report, clock, decoder, slots, setup.slot_length)
        report.run(f"attention {slots} slots", 30, attention)
    for slots in (1, 32, 64) if setup.cuda else (2,):
        variants = partial(measure_variants, report, clock, setup, decoder, slots)
        report.run(f"variants {slots} slots", 60, variants)


if __name__ == "__main__":
    sys.exit(main())
