"""What the Prefect server does by itself for a narration whose process is gone.

A worker that is killed takes its runs' processes with it, and nobody is left to say so. Four
automations on the server watch the runs tagged `narration`:

- a run that began and fell silent is marked crashed;
- a run that stays crashed for a moment is scheduled again after its first, second and third start:
  three times at most. The count is the server's own (`prefect.run-count`), so nothing can forget it;
- a run that a worker claimed and never began is handed to another worker;
- a run being cancelled whose process never confirms it becomes cancelled.

Every run plans afresh from the store, so a run scheduled again makes only what is missing; and the
server refuses to mark a finished run crashed, so a late heartbeat does no harm. A server that was
away for longer than a silence takes the runs that went on meanwhile for dead: they then run twice at
once, which the store bears. Under load the server loses such events on SQLite, and not on PostgreSQL.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

RUN_TAG = "narration"  # carried by every deployment of this project, and so by its runs
HEARTBEAT_SECONDS = 30  # between beats; Prefect takes no less
SILENCE = timedelta(seconds=120)  # four beats missed
CLAIM = timedelta(seconds=300)  # from a worker's claim to the run's first line, imports included
CANCELLATION = timedelta(seconds=180)  # for the process to cancel its jobs and say so
STARTS_RESCHEDULED = 3
# Till a crashed run is scheduled again. A worker with a limit still holds the place of a run whose
# process it just saw die, and ends itself when it is handed the same run meanwhile (Prefect 3.8).
RESPITE = timedelta(seconds=20)


def _event(*names: str) -> frozenset[str]:
    return frozenset(f"prefect.flow-run.{name}" for name in names)


_BEAT = _event("heartbeat")
_ENDED = _event("Completed", "Failed", "Crashed", "Cancelled")
_LEFT_RUNNING = _event("Cancelling", "Paused", "Suspended")
_WAITING = _event("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming")


def automations(
    *,
    silence: timedelta = SILENCE,
    respite: timedelta = RESPITE,
    claim: timedelta = CLAIM,
    cancellation: timedelta = CANCELLATION,
) -> list[AutomationCore]:
    """The automations of this project. The periods are how long each silence may last, 10 s at least."""
    return [
        _automation(
            "narration: a silent run has crashed",
            # Also after Running: a run may be gone before its first heartbeat arrives.
            _absence(after=_event("Running") | _BEAT, expect=_BEAT | _ENDED | _LEFT_RUNNING, within=silence),
            _becomes(
                StateType.CRASHED, "Crashed", f"no heartbeat for {_seconds(silence)}: its worker is gone"
            ),
        ),
        _automation(
            "narration: a crashed run is scheduled again",
            _absence(
                after=_event("Crashed"),
                expect=_event("Pending", "Running", "Completed") | _WAITING,  # a person was quicker
                within=respite,
                starts=STARTS_RESCHEDULED,
            ),
            _becomes(StateType.SCHEDULED, "AwaitingRetry", "crashed: what was stored is not made again"),
        ),
        _automation(
            "narration: a run that never began is handed on",
            _absence(
                after=_event("Pending"),
                expect=_event("Running") | _BEAT | _ENDED | _LEFT_RUNNING | _WAITING,
                within=claim,
            ),
            _becomes(
                StateType.SCHEDULED, "AwaitingRetry", f"not begun {_seconds(claim)} after it was claimed"
            ),
        ),
        _automation(
            "narration: a cancellation that nobody confirms is done",
            _absence(after=_event("Cancelling"), expect=_ENDED, within=cancellation),
            _becomes(
                StateType.CANCELLED, "Cancelled", f"its process was silent for {_seconds(cancellation)}"
            ),
        ),
    ]


_TAGGED = ResourceSpecification(
    {"prefect.resource.id": f"prefect.tag.{RUN_TAG}", "prefect.resource.role": "tag"}
)


def _automation(name: str, trigger: EventTrigger, action: ChangeFlowRunState) -> AutomationCore:
    return AutomationCore(
        name=name,
        description="Made by infra/prefect_setup.py, which would undo changes made here.",
        enabled=True,  # said outright, since an update carries only what was said
        trigger=trigger,
        actions=[action],
    )


def _absence(
    *, after: frozenset[str], expect: frozenset[str], within: timedelta, starts: int | None = None
) -> EventTrigger:
    """Fires for each run for which none of `expect` came `within` the time since the last of `after`."""
    return EventTrigger(
        after=set(after),
        expect=set(expect),
        match=_runs(starts=starts),
        match_related=_TAGGED,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _runs(*, starts: int | None = None) -> ResourceSpecification:
    """Flow runs; with `starts`, those that have begun at least once and at most so often."""
    labels: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
    if starts is not None:
        labels["prefect.run-count"] = [str(count) for count in range(1, starts + 1)]
    return ResourceSpecification(labels)


def _becomes(state: StateType, name: str, message: str) -> ChangeFlowRunState:
    # Never forced: the server's own rules keep a finished run finished.
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _seconds(period: timedelta) -> str:
    return f"{period.total_seconds():g} s"
