"""The trials of `chaos.py`: each runs one narration into a fault, then again without it, and checks both."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from checks import Checks
from faults.bad_audio import BadAudio, result_with
from faults.fault import Fault
from faults.machine_faults import (
    artifacts_refused,
    dying_ffmpeg,
    full_disk,
    no_temporary_folder,
    stop_without_prefect,
)
from faults.narration_case import CHUNKS, NarrationCase
from faults.narration_requests import POST_RESULT, NthRequest
from faults.network_faults import cut_network
from faults.services import Services
from faults.stored_objects import StoredObjects
from outcomes import Outcomes
from support.prefect_servers import RestartableServer
from support.proxy_actions import edit_request

from narration.errors import NarrationError

IDENTICAL, OTHER_SEED = "identical", "complete, with another seed"


class Trials:
    """Trials with the same services; `random` makes their choices, none starts after `give_up`.

    Each trial's first argument is the name of its row in `outcomes`.
    """

    def __init__(self, services: Services, prefect_url: str, rng: random.Random, *, give_up: float) -> None:
        self.random = rng
        self.checks = Checks()
        self.outcomes = Outcomes()
        self._services = services
        self._prefect_url = prefect_url
        self._give_up = give_up
        reference = self._new_case()
        reference.run()
        self._reference = reference.published()

    def run_under(
        self,
        name: str,
        faults: list[Fault],
        machine_fault: AbstractContextManager[None] | None = None,
        **env: str,
    ) -> None:
        """A run under `faults` and `machine_fault`, which completes or fails with a remedy."""
        if self._is_over():
            return
        case = self._new_case()
        case.env |= env
        for fault in faults:
            fault.arrange(case)
        allowed = CHUNKS + sum(fault.lost for fault in faults)
        self._run_and_finish(name, case, allowed, machine_fault or nullcontext())

    def cancel(self, name: str, request: NthRequest) -> None:
        """A run that is cancelled when it makes `request`; its jobs are cancelled too."""
        if self._is_over():
            return
        case = self._new_case()
        case.cancel_at(request)
        self.checks.require_equal(f"{name}: jobs still running", self._services.unfinished_jobs, 0)
        case.wait_for_store_writes()
        missing = CHUNKS - len(case.stored.keys("/clips/", ".json"))
        self._finish(name, case, "cancelled", CHUNKS + missing)

    def kill(self, name: str, request: NthRequest) -> None:
        """A pipeline that is killed when it makes `request`."""
        if self._is_over():
            return
        case = self._new_case()
        unrecorded = CHUNKS - 1 if case.kill_at(request) else 0  # at most the other jobs in flight
        self._finish(name, case, "killed", CHUNKS + unrecorded)

    def damage(self, name: str, damage: Callable[[StoredObjects, str], object]) -> None:
        """A narration one of whose clips is damaged: that one is synthesized again."""

        def run(case: NarrationCase) -> None:
            case.run()
            case.damage({self.random.choice(case.stored.keys("/clips/", ".flac")): damage})

        self._complete(name, run, CHUNKS + 1)

    def bad_audio(self, name: str, bad: BadAudio) -> None:
        """A run of which one result is bad: another seed is tried, whose audio differs."""

        def run(case: NarrationCase) -> None:
            case.env["NARRATION_CONCURRENCY"] = "1"
            change = edit_request(result_with(bad.change))
            case.services.worker_proxy.add_rule("POST", POST_RESULT, change, skip=1)
            report = case.run()
            chunk = case.published().manifest["chunks"][1]
            outcome = (report["flagged"], chunk["attempt"], len(chunk["refused"]))
            self.checks.require_equal(f"{name}: flagged, attempt, refused", outcome, ([], 2, 1))

        self._complete(name, run, CHUNKS + 1, identical=False)

    def run_twice(self, name: str) -> None:
        """Two identical runs at once."""
        self._complete(name, NarrationCase.run_twice_at_once, 2 * CHUNKS)

    def machine_faults(self, folder: Path) -> None:
        """Every fault of the pipeline's machine; `folder` is for the files of these trials."""
        self._complete("machine sleeps for an hour", NarrationCase.run_on_machine_that_sleeps, CHUNKS)
        self.run_under("every artifact refused", [], artifacts_refused())
        if sys.platform != "win32":
            self.run_under("ffmpeg killed", [], NARRATION_FFMPEG=str(dying_ffmpeg(folder)))
            self._lose_prefect("Prefect server gone for good, run stopped", folder / "server")
        self.run_under("no room on the disk", [], full_disk(), NARRATION_STORE=str(folder / "store"))
        self.run_under("no folder for temporary files", [], no_temporary_folder(folder / "missing"))

    def cut_network(self, seconds: float, home: Path) -> None:
        """A run without endpoint, store and Prefect server for `seconds`, which must complete."""
        home.mkdir()
        case = self._new_case()
        name = f"network and Prefect server gone for {seconds:g} s"
        with RestartableServer(home, seconds) as prefect:
            case.prefect_url = prefect.url
            cut_network(case, seconds=seconds, meanwhile=prefect.restart_soon)
            self._run_and_finish(name, case, CHUNKS + 2, nullcontext())  # two submissions may be on the way
        self.checks.require(
            IDENTICAL in self.outcomes.rows[name].outcomes, f"{name}: the run did not complete"
        )

    def _lose_prefect(self, name: str, home: Path) -> None:
        """A run whose Prefect server is killed for good, and that is then told to stop."""
        if self._is_over():
            return
        home.mkdir()
        case = self._new_case()
        status, _ = stop_without_prefect(case, home, signal.SIGTERM)
        self.checks.require(status in {1, 130}, f"{name}: exit status {status}")
        missing = CHUNKS - len(case.stored.keys("/clips/", ".json"))
        self._finish(name, case, "stopped", CHUNKS + missing)

    def _run_and_finish(
        self, name: str, case: NarrationCase, allowed: int, machine_fault: AbstractContextManager[None]
    ) -> None:
        outcome = IDENTICAL
        try:
            with machine_fault:
                case.run()
        except NarrationError as error:
            outcome = f"failed: {type(error).__name__}"
            self.checks.require(bool(error.remedy), f"{name}: no remedy in {error}")
        except Exception as error:  # noqa: BLE001  # any other error is a failed check
            outcome = self._unexpected(name, error)
        self._finish(name, case, outcome, allowed)

    def _complete(
        self, name: str, run: Callable[[NarrationCase], object], allowed: int, *, identical: bool = True
    ) -> None:
        """A narration that `run` has to complete."""
        if self._is_over():
            return
        case, outcome = self._new_case(), IDENTICAL if identical else OTHER_SEED
        try:
            run(case)
        except Exception as error:  # noqa: BLE001  # any error is a failed check
            outcome = self._unexpected(name, error)
        self._finish(name, case, outcome, allowed, identical=identical)

    def _finish(
        self, name: str, case: NarrationCase, outcome: str, allowed: int, *, identical: bool = True
    ) -> None:
        """Run the narration without faults, and check what it published, paid and left."""
        paid = self._services.accepted_jobs
        self._services.reset()
        try:
            case.run()
            published = case.published()
            self.checks.require(not identical or published == self._reference, f"{name}: not identical")
        except Exception as error:  # noqa: BLE001  # any error is a failed check
            self._unexpected(f"{name}, second run", error)
        paid += self._services.accepted_jobs
        self.checks.require(paid <= allowed, f"{name}: {paid} jobs paid, {allowed} allowed")
        self.checks.require_equal(f"{name}: job records left", case.stored.job_records(), [])
        self.outcomes.add(name, outcome, paid=paid, allowed=allowed)

    def _unexpected(self, name: str, error: Exception) -> str:
        self.checks.failures.append(f"{name}: {error!r}")
        return f"unexpected {type(error).__name__}"

    def _new_case(self) -> NarrationCase:
        self._services.reset()
        return NarrationCase(self._services, self._prefect_url)

    def _is_over(self) -> bool:
        return time.monotonic() > self._give_up
