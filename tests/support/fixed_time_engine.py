"""An engine whose slots each hold a request for a set time, and the process of a worker that runs it.

`python fixed_time_engine.py`, started as a worker of the local endpoint, is the real worker loop around this
engine. Its variables: `FIXED_SLOTS`, `FIXED_DECODE_SECONDS` and `FIXED_RECORD`, the file to which it appends
a JSON line for each request that left its slot.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gpu_worker.engine_protocol import SampleLoader, Utterance
from gpu_worker.handler import serve
from gpu_worker.settings import WorkerSettings
from narration.contract import SynthesisRequest, Timings

MODEL = "fixed/engine-1"
SPREAD = 0.3  # of the decode time, up and down, by the request's seed
CODEC_SECONDS = 0.3  # after the slot is free again


@dataclass(frozen=True, slots=True)
class SlotUse:
    """One request's time in a slot, in seconds of the event loop's clock."""

    prompt: str
    submitted: float
    began: float
    ended: float


class FixedTimeEngine:
    """An `Engine` that decodes each request in `decode_seconds`, as many at once as it has slots."""

    def __init__(
        self,
        *,
        slots: int,
        decode_seconds: float,
        codec_seconds: float = CODEC_SECONDS,
        record: Callable[[SlotUse], None] | None = None,
    ) -> None:
        self.model = MODEL
        self.slots = slots
        self.configuration: dict[str, str | int | float | bool] = {"engine": "fixed", "slots": slots}
        self.uses: list[SlotUse] = []
        self.cancelled: list[str] = []
        self.most_at_once = 0
        self._decode_seconds = decode_seconds
        self._codec_seconds = codec_seconds
        self._record = record or self.uses.append
        self._free = asyncio.Semaphore(slots)
        self._held = 0

    async def synthesize(self, request: SynthesisRequest, _sample: SampleLoader | None) -> Utterance:
        """A second of silence, after the time that the request's seed decides."""
        now = asyncio.get_running_loop().time
        submitted = now()
        self._held += 1
        self.most_at_once = max(self.most_at_once, self._held)
        try:
            async with self._free:
                began = now()
                factor = random.Random(request.seed).uniform(1 - SPREAD, 1 + SPREAD)
                await asyncio.sleep(self._decode_seconds * factor)
                self._record(SlotUse(request.prompt, submitted, began, now()))
            await asyncio.sleep(self._codec_seconds)
        except asyncio.CancelledError:
            self.cancelled.append(request.prompt)
            raise
        finally:
            self._held -= 1
        timings = Timings(queue=began - submitted, decode=now() - began)
        silence = np.zeros(24_000, np.float32)
        return Utterance(silence, frames=25, finish_reason="stop", seed=request.seed or 0, timings=timings)

    async def drain(self) -> None:
        """Nothing to do: no work outlives the request it belongs to."""


def busy_share(uses: Iterable[SlotUse], slots: int, since: float, until: float) -> float:
    """The part of the slots' time between two moments in which a request was in the slot, from 0 to 1."""
    busy = sum(max(0.0, min(use.ended, until) - max(use.began, since)) for use in uses)
    return busy / (slots * (until - since))


def read_uses(record: Path) -> list[SlotUse]:
    """The uses of slots that a worker's process has recorded so far, without a line not yet complete."""
    lines = record.read_text(encoding="utf-8").split("\n")[:-1] if record.exists() else []
    return [SlotUse(**json.loads(line)) for line in lines]


WORKER = [sys.executable, "-P", __file__]
"""The command of a worker that runs this engine."""


def main() -> None:
    """Take jobs from RunPod's loop until SIGTERM."""
    with Path(os.environ["FIXED_RECORD"]).open("a", encoding="utf-8") as file:

        def record(use: SlotUse) -> None:
            file.write(json.dumps(asdict(use)) + "\n")
            file.flush()

        engine = FixedTimeEngine(
            slots=int(os.environ["FIXED_SLOTS"]),
            decode_seconds=float(os.environ["FIXED_DECODE_SECONDS"]),
            record=record,
        )
        serve(engine, WorkerSettings())


if __name__ == "__main__":
    main()
