"""Narrations under faults picked at random, and pipelines killed at random points.

Each narration is four chunks through the real client, worker loop, S3 server and Prefect server,
with one to three faults of the matrix at once. It must end identical to the undisturbed one, or
fail with a typed error; then the faults are lifted and the rerun must complete it. Jobs paid never
exceed chunks plus what the faults destroyed. Pipelines are killed at the moments that the matrix
names and at random ones. At the end the whole network, Prefect's server with it, is gone for a
minute, with the pauses between tries as they are in earnest. `--each` goes through the matrix
itself first: every fault alone, every phase a run can be cancelled in, every damage to a clip, all
bad audio, two runs at once, all that the machine may lack. Prints what was met, how it ended, what was paid.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ledger import Ledger

from narration.errors import NarrationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.matrix import Fault
    from faults.scene import Moment, Scene

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CHUNKS = 4
REQUESTS: dict[Literal["s3", "client"], int] = {
    "s3": 75,
    "client": 20,
}  # of one narration, about: where a kill may strike


def main() -> int:
    """Run the storm; 1 if any promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--narrations", type=int, default=40, help="with random faults")
    parser.add_argument("--kills", type=int, default=25, help="pipelines killed, at named and random points")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without a network, once")
    parser.add_argument("--each", action="store_true", help="all of the matrix once, each alone")
    parser.add_argument("--minutes", type=float, default=60.0, help="start nothing new after these")
    asked = parser.parse_args()
    for name in [
        name for name in os.environ if name.startswith(("NARRATION_", "RUNPOD_", "PREFECT_", "AWS_"))
    ]:
        del os.environ[name]
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_HOME": tempfile.mkdtemp(prefix="chaos-"),
    }
    warnings.simplefilter("ignore", ResourceWarning)  # boto3 leaves its sockets to the collector
    os.chdir(os.environ["PREFECT_HOME"])
    return Storm(asked).run()


class Storm:
    """One run of the benchmark."""

    def __init__(self, asked: argparse.Namespace) -> None:
        from faults.backstage import Backstage

        self.asked = asked
        self.dice = random.Random(asked.seed)
        self.give_up = time.monotonic() + 60 * asked.minutes
        self.ledger = Ledger()
        self.backstage = Backstage()
        self.prefect_url = ""

    def run(self) -> int:
        """Everything, then the table."""
        from faults.matrix import ENDPOINT, OTHER, STORE, WORKER
        from faults.scene import Scene
        from faults.short_pauses import short_pauses
        from support.prefect_servers import running_server

        faults = [*ENDPOINT, *WORKER, *STORE, *OTHER]
        with ExitStack() as stack:
            home = Path(os.environ["PREFECT_HOME"])
            self.prefect_url = stack.enter_context(running_server(home / "server"))
            self.backstage.open()
            stack.callback(self.backstage.close)
            pauses = stack.enter_context(ExitStack())
            pauses.enter_context(short_pauses())
            reference = Scene(self.backstage, self.prefect_url)
            reference.run()
            self.reference = reference.published()
            if self.asked.each:
                self.each(faults)
            for _ in range(self.asked.narrations):
                chosen = self.dice.sample(faults, self.dice.choice([1, 2, 2, 3]))
                self.one(" + ".join(sorted(fault.name for fault in chosen)), chosen)
            for name, moment in self._kills():
                self.kill(name, moment)
            pauses.close()
            if self.asked.outage:
                self.outage(self.asked.outage, home / "restarted")
        self.ledger.print_table(self.asked.seed)
        return 1 if self.ledger.broken else 0

    def each(self, faults: list[Fault]) -> None:
        """All of the matrix, one thing at a time."""
        from faults.bad_audio import BAD
        from faults.matrix import HANGING
        from faults.moments import DAMAGE, PHASES
        from faults.scene import Scene

        for fault in [*faults, HANGING]:
            self.one(fault.name, [fault])
        for phase, moment in PHASES.items():
            self.cancel(f"cancelled: {phase}", moment)
        for kind, deed in DAMAGE.items():
            self.damage(f"clip {kind}", deed)
        for kind, (change, _) in BAD.items():
            self.bad_audio(f"bad audio: {kind}", change)
        self.ends_well("two runs at once", Scene.run_twice, 2 * CHUNKS)
        self.machine()

    def machine(self) -> None:
        """What can be wrong with the machine that the pipeline runs on."""
        from faults.machine import artifacts_refused, dying_ffmpeg, full_disk, no_temporary_folder
        from faults.scene import Scene

        with tempfile.TemporaryDirectory(prefix="chaos-") as made:
            folder = Path(made)
            self.ends_well("the machine sleeps for an hour", Scene.sleep_an_hour, CHUNKS)
            self.one("every artifact refused", [], artifacts_refused())
            if sys.platform != "win32":
                self.one("ffmpeg killed", [], NARRATION_FFMPEG=str(dying_ffmpeg(folder)))
                self.gone("Prefect's server gone for good, then stopped", folder / "server")
            self.one("no room on the disk", [], full_disk(), NARRATION_STORE=str(folder / "store"))
            self.one("no temporary folder", [], no_temporary_folder(folder / "gone"))

    def one(
        self,
        name: str,
        faults: list[Fault],
        trouble: AbstractContextManager[None] | None = None,
        **env: str,
    ) -> None:
        """A narration under `faults`, in `trouble`, then without."""
        if time.monotonic() > self.give_up:
            return
        scene = self._scene()
        scene.env |= env
        for fault in faults:
            fault.arrange(scene)
        self._run(name, scene, CHUNKS + sum(fault.lost for fault in faults), trouble)

    def gone(self, name: str, home: Path) -> None:
        """A narration whose Prefect server goes for good, so that it is told to stop; then run again."""
        from faults.machine import stopped_without_prefect

        if time.monotonic() > self.give_up:
            return
        home.mkdir()
        scene = self._scene()
        status, _ = stopped_without_prefect(scene, home, signal.SIGTERM)
        self.ledger.require(status in {1, 130}, f"{name}: exit status {status}")
        unrecorded_or_cancelled = CHUNKS - len(scene.keys("/clips/", ".json"))
        self._finish(name, scene, "stopped", CHUNKS + unrecorded_or_cancelled)

    def outage(self, seconds: float, home: Path) -> None:
        """A narration that loses endpoint, store and Prefect's server for so long."""
        from faults.matrix import outage
        from support.prefect_servers import RestartableServer

        home.mkdir()
        scene = self._scene()
        with RestartableServer(home, seconds) as prefect:
            scene.prefect_url = prefect.url
            outage(scene, seconds, prefect.restart_soon)
            name = f"network gone for {seconds:g} s"
            self._run(name, scene, CHUNKS + 2)  # whose submissions may be on the way in that moment
        self.ledger.require("identical" in self.ledger.rows[name].outcomes, f"{name}: it was not waited out")

    def _run(
        self, name: str, scene: Scene, allowed: int, trouble: AbstractContextManager[None] | None = None
    ) -> None:
        outcome = "identical"
        try:
            with trouble or nullcontext():
                scene.run()
        except NarrationError as error:
            outcome = f"failed: {type(error).__name__}"
            self.ledger.require(bool(error.remedy), f"{name}: no remedy in {error}")
        except Exception as error:  # noqa: BLE001  # anything else is what this looks for
            outcome = f"broke: {error!r}"
            self.ledger.broken.append(f"{name}: {error!r}")
        self._finish(name, scene, outcome, allowed)

    def ends_well(
        self, name: str, run: Callable[[Scene], object], allowed: int, *, identical: bool = True
    ) -> None:
        """A narration that `run` brings to its end, whatever it does on the way."""
        if time.monotonic() > self.give_up:
            return
        scene, outcome = self._scene(), "identical" if identical else "other seed"
        try:
            run(scene)
        except Exception as error:  # noqa: BLE001  # anything is too much
            outcome = f"broke: {error!r}"
            self.ledger.broken.append(f"{name}: {error!r}")
        self._finish(name, scene, outcome, allowed, identical=identical)

    def cancel(self, name: str, moment: Moment) -> None:
        """A narration cancelled at that moment, its jobs with it, then run again."""
        if time.monotonic() > self.give_up:
            return
        scene = self._scene()
        scene.cancel_at(moment)
        self.ledger.require(self.backstage.unfinished == 0, f"{name}: a job is still spoken")
        scene.let_writes_land()
        missing = CHUNKS - len(scene.keys("/clips/", ".json"))
        self._finish(name, scene, "identical", CHUNKS + missing)

    def damage(self, name: str, deed: Callable[[Scene, str], object]) -> None:
        """A narration of which one clip is damaged: that one is made again."""

        def run(scene: Scene) -> None:
            scene.run()
            scene.damage({self.dice.choice(scene.keys("/clips/", ".flac")): deed})

        self.ends_well(name, run, CHUNKS + 1)

    def bad_audio(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """A narration of which one answer is bad: another seed is tried, which sounds another way."""
        from faults.bad_audio import posts
        from faults.matrix import DONE
        from support.proxy import sends_instead

        def run(scene: Scene) -> None:
            scene.env["NARRATION_CONCURRENCY"] = "1"
            scene.backstage.worker.rule("POST", DONE, sends_instead(posts(change)), skip=1)
            report = scene.run()
            chunk = scene.published().manifest["chunks"][1]
            told = (report["flagged"], chunk["attempt"], len(chunk["refused"]))
            self.ledger.require(told == ([], 2, 1), f"{name}: {told}")

        self.ends_well(name, run, CHUNKS + 1, identical=False)

    def kill(self, name: str, moment: Moment) -> None:
        """A pipeline killed at that moment, then run again."""
        if time.monotonic() > self.give_up:
            return
        scene = self._scene()
        # At most the jobs in flight whose records were not written yet.
        unrecorded = CHUNKS - 1 if scene.kill_at(moment) else 0
        self._finish(name, scene, "identical", CHUNKS + unrecorded)

    def _kills(self) -> list[tuple[str, Moment]]:
        """The moments that the matrix names, and random ones."""
        from faults.moments import KILLED
        from faults.scene import Moment

        kills = [(f"pipeline killed {name}", moment) for name, moment in KILLED.items()]
        while len(kills) < self.asked.kills:
            proxy = self.dice.choice(list(REQUESTS))
            kills.append(("pipeline killed", Moment(proxy, "*", "", self.dice.randrange(REQUESTS[proxy]))))
        return kills[: self.asked.kills]

    def _finish(self, name: str, scene: Scene, outcome: str, allowed: int, *, identical: bool = True) -> None:
        paid = self.backstage.jobs
        self.backstage.settle()
        try:
            scene.run()
            if identical:
                self.ledger.require(scene.published() == self.reference, f"{name}: not identical")
        except Exception as error:  # noqa: BLE001  # as above
            self.ledger.broken.append(f"{name}: the rerun broke: {error!r}")
        paid += self.backstage.jobs
        self.ledger.require(paid <= allowed, f"{name}: {paid} jobs paid, {allowed} allowed")
        self.ledger.require(not scene.leftovers(), f"{name}: job records left")
        self.ledger.note(name, outcome, paid, allowed)

    def _scene(self) -> Scene:
        from faults.scene import Scene

        self.backstage.settle()
        return Scene(self.backstage, self.prefect_url)


if __name__ == "__main__":
    sys.exit(main())
