"""Time and peak memory of mastering one hour and ten hours of speech (Linux).

    python benchmarks/mastering.py [HOURS ...]

Each length runs in a process of its own, over speech of the draft voice that is repeated to fill it:
clips are decoded from FLAC, measured, arranged, and mastered to WAV and MP3. What counts are the
ratios: seconds of narration per second of work, and the memory of each length to the first one's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

from narration.audio.clip_shape import shape_of
from narration.audio.files import decode, encode_flac
from narration.chunking import Chunk
from narration.contract import SAMPLE_RATE, SynthesisRequest
from narration.rendering.master import PRESETS, write_master
from narration.rendering.timeline import Pauses, arrange

SENTENCE = "Number {}: computers were once people, and the word meant a job, long, dull and important. "
CLIPS = 24  # distinct ones, of about half a minute


async def _speak() -> list[bytes]:
    from gpu_worker.draft.engine import DraftEngine

    engine = DraftEngine()
    prompts = ["".join(SENTENCE.format(n * 10 + m) for m in range(5)) for n in range(CLIPS)]
    requests = [SynthesisRequest(prompt=prompt, max_new_tokens=4_000) for prompt in prompts]
    spoken = await asyncio.gather(*(engine.synthesize(request, None) for request in requests))
    return [encode_flac(utterance.waveform, SAMPLE_RATE) for utterance in spoken]


@contextmanager
def sampling_children() -> Iterator[dict[str, float]]:
    """Peak memory of this process's children in `mb`, sampled five times a second.

    `resource.RUSAGE_CHILDREN` would count the memory that a child shares with this process before it
    runs another program.
    """
    peak, done = {"mb": 0.0}, threading.Event()

    def sample() -> None:
        tasks = Path(f"/proc/{os.getpid()}/task")
        while not done.wait(0.2):
            for child in " ".join(path.read_text() for path in tasks.glob("*/children")).split():
                with suppress(OSError):
                    line = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child}/status").read_text())
                    peak["mb"] = max(peak["mb"], int(line[1]) / 1024 if line else 0.0)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def measure(hours: float) -> dict[str, float]:
    """Master `hours` of speech; seconds of work and peak memory in MB."""
    clips = asyncio.run(_speak())
    seconds = sum(decode(clip)[0].size for clip in clips) / SAMPLE_RATE
    count = max(1, round(hours * 3_600 / seconds * len(clips)))
    chunks = [Chunk(n, "-", ("-",), "sentence", "text", 0) for n in range(1, count + 1)]

    started = perf_counter()
    shapes = [shape_of(*decode(clips[chunk.index % CLIPS])) for chunk in chunks]
    timeline = arrange(chunks, shapes, Pauses())
    measured = perf_counter()
    with tempfile.TemporaryDirectory() as folder, sampling_children() as peak:
        master = write_master(
            timeline, lambda index: decode(clips[index % CLIPS])[0], Path(folder), PRESETS["audiobook"]
        )
        done = perf_counter()
        size = master.wav.stat().st_size
    return {
        "narration_s": timeline.seconds,
        "shapes_s": measured - started,
        "master_s": done - measured,
        "wav_mb": size / 2**20,
        "lufs": master.loudness.integrated_lufs,
        "own_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ffmpeg_mb": peak["mb"],
    }


def main(lengths: Sequence[float]) -> None:
    """Run every length in a fresh process and print the table."""
    print("  hours   shapes   master  x real time   pipeline MB   ffmpeg MB   memory ratio")
    first = 0.0
    for hours in lengths:
        child = [sys.executable, __file__, "--measure", str(hours)]
        measured = json.loads(subprocess.run(child, capture_output=True, check=True, text=True).stdout)
        work = measured["shapes_s"] + measured["master_s"]
        memory = measured["own_mb"] + measured["ffmpeg_mb"]
        first = first or memory
        print(
            f"{measured['narration_s'] / 3_600:7.2f} {measured['shapes_s']:7.1f}s"
            f" {measured['master_s']:7.1f}s {measured['narration_s'] / work:12.0f}"
            f" {measured['own_mb']:13.0f} {measured['ffmpeg_mb']:11.0f}"
            f" {memory / first:14.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(float(sys.argv[2]))))
    else:
        main([float(hours) for hours in sys.argv[1:]] or [1, 10])
