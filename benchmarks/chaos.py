"""Narrations under random faults, and pipelines killed at random moments.

    python benchmarks/chaos.py [--seed N] [--narrations N] [--kills N] [--outage SECONDS] [--each]

Each narration is four chunks through the real client, worker loop, S3 server and Prefect server,
under one to three faults of `tests/faults/matrix.py` at once. It must end identical to a run without
faults, or fail with a typed error; then the faults are removed, and a second run must complete it.
Jobs paid never exceed the chunks and what the faults destroyed. Then pipelines are killed, at the
named moments and at random ones. At the end endpoint, store and Prefect server are out of reach for
`--outage` seconds, with retry delays as in production. `--each` first runs every fault, cancellation,
clip damage, bad audio and machine fault alone. Prints a table; exit status 1 if a check failed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

if TYPE_CHECKING:
    from chaos_trials import Trials
    from faults.narration_requests import NthRequest

FOREIGN_SETTINGS = ("NARRATION_", "RUNPOD_", "PREFECT_", "AWS_")
REQUESTS: dict[Literal["store", "endpoint"], int] = {"store": 75, "endpoint": 20}
"""About how many requests one narration makes: a random kill meets one of them."""


def main() -> int:
    """Run everything that the arguments name; 1 if a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--narrations", type=int, default=40, help="under random faults")
    parser.add_argument("--kills", type=int, default=25, help="of pipelines, at named and random moments")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without network, once; 0: none")
    parser.add_argument("--each", action="store_true", help="run each fault alone first")
    parser.add_argument("--minutes", type=float, default=60.0, help="start no narration after this time")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    _prepare_environment(home)

    from chaos_trials import Trials
    from faults.services import Services
    from faults.short_retry_delays import short_retry_delays
    from support.prefect_servers import running_server

    with ExitStack() as stack:
        prefect_url = stack.enter_context(running_server(home / "server"))
        services = Services()
        services.start()
        stack.callback(services.stop)
        trials = Trials(
            services,
            prefect_url,
            random.Random(arguments.seed),
            give_up=time.monotonic() + 60 * arguments.minutes,
        )
        with short_retry_delays():
            if arguments.each:
                _run_each(trials)
            _run_random_faults(trials, arguments.narrations)
            for name, request in _kill_points(trials.random, arguments.kills):
                trials.kill(name, request)
        if arguments.outage:
            trials.cut_network(arguments.outage, home / "restarted")
    trials.outcomes.print_table()
    print(f"seed {arguments.seed}, {len(trials.checks.failures)} checks failed")
    return trials.checks.exit_status()


def _prepare_environment(home: Path) -> None:
    """Before Prefect is imported: no settings of this machine's user, and `home` for what is written."""
    for name in [name for name in os.environ if name.startswith(FOREIGN_SETTINGS)]:
        del os.environ[name]
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_HOME": str(home),
    }
    warnings.simplefilter("ignore", ResourceWarning)  # boto3 leaves its sockets to the garbage collector
    os.chdir(home)

    from support.orphans import kill_orphans_at_exit

    kill_orphans_at_exit()


def _run_random_faults(trials: Trials, narrations: int) -> None:
    from faults.matrix import FAULTS

    for _ in range(narrations):
        faults = trials.random.sample(FAULTS, trials.random.choice([1, 2, 2, 3]))
        trials.run_under(" + ".join(sorted(fault.name for fault in faults)), faults)


def _run_each(trials: Trials) -> None:
    """Run every fault, cancellation, damage, bad audio and machine fault alone."""
    from faults.bad_audio import BAD_AUDIO
    from faults.interruptions import CANCEL_AT
    from faults.matrix import FAULTS
    from faults.store_faults import STORE_NEVER_ANSWERS
    from faults.stored_objects import DAMAGES

    for fault in [*FAULTS, STORE_NEVER_ANSWERS]:
        trials.run_under(fault.name, [fault])
    for phase, request in CANCEL_AT.items():
        trials.cancel(f"cancelled: {phase}", request)
    for kind, damage in DAMAGES.items():
        trials.damage(f"clip damaged: {kind}", damage)
    for kind, bad in BAD_AUDIO.items():
        trials.bad_audio(f"bad audio: {kind}", bad)
    trials.run_twice("two identical runs at once")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        trials.machine_faults(Path(folder))


def _kill_points(rng: random.Random, kills: int) -> list[tuple[str, NthRequest]]:
    """The named moments, then random ones, `kills` in all."""
    from faults.interruptions import KILL_AT
    from faults.narration_requests import NthRequest

    points = [(f"pipeline killed {name}", point.request) for name, point in KILL_AT.items()]
    while len(points) < kills:
        service = rng.choice(list(REQUESTS))
        request = NthRequest(service, "*", "", rng.randrange(REQUESTS[service]))
        points.append(("pipeline killed at a random moment", request))
    return points[:kills]


if __name__ == "__main__":
    sys.exit(main())
