"""Start times: the parts of a start in their order, with the seconds of each."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import sleep

from support.tiny_codec import write_tiny_codec
from support.tiny_higgs import write_tiny_higgs

from gpu_worker.start_times import StartTimes


def test_each_part_has_its_seconds_also_when_it_fails() -> None:
    """A part that is timed again adds to its seconds."""
    times = StartTimes()
    with times.part("torch"):
        sleep(0.02)
    with suppress(ZeroDivisionError), times.part("weights"):
        sleep(0.02)
        raise ZeroDivisionError
    with times.part("torch"):
        sleep(0.02)
    assert list(times.seconds) == ["torch", "weights"]
    assert times.seconds["torch"] >= 0.04
    assert times.seconds["weights"] >= 0.02
    assert times.describe().startswith("torch 0.")
    assert times.describe().endswith(" s")


def test_the_parts_of_a_start_add_up_to_it(tmp_path: Path) -> None:
    """Of the seconds that opening the Higgs engine takes, the named parts are nearly all."""
    variables = {
        "WORKER_MODEL": str(write_tiny_higgs(tmp_path / "model", counting=4)),
        "WORKER_CODEC": str(write_tiny_codec(tmp_path / "codec")),
        "WORKER_DEVICE": "cpu",
        "WORKER_SLOTS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    code = """
from time import perf_counter
from gpu_worker.open_engine import open_engine
from gpu_worker.settings import read_settings
from gpu_worker.start_times import START_TIMES
began = perf_counter()
open_engine(read_settings())
print(perf_counter() - began, *START_TIMES.seconds.values())
print(*START_TIMES.seconds, sep=", ")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True, timeout=200
    )
    seconds, parts = done.stdout.splitlines()[-2:]
    whole, *each = map(float, seconds.split())
    assert parts == "torch, transformers, checkpoints, weights and warm-up"
    assert 0.9 * whole <= sum(each) <= whole
