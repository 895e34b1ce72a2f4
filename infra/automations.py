"""Automations of the Prefect server for flow runs whose process has died.

When a worker is killed, the processes of its runs die with it, and none of them can report it. Four
automations on the server watch the runs tagged `narration`:

- a run that has started and sends no heartbeat any more is marked crashed;
- a run that stays crashed for a while is scheduled again after its first, second and third start,
  so three times at most. The server itself counts the starts (`prefect.run-count`);
- a run that a worker has claimed but not started is scheduled again;
- a run being cancelled whose process does not confirm it is marked cancelled.

A run that is scheduled again synthesizes only what the store lacks, and the server refuses to mark a
finished run crashed, so that a late heartbeat does no harm. If the server itself is away for longer
than the heartbeat timeout, it takes the runs that went on meanwhile for dead and schedules them
again: they then run twice at once, which the store allows. Under load the server loses events on
SQLite, but not on PostgreSQL.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

RUN_TAG = "narration"  # the tag of every deployment of this project, and so of its runs
HEARTBEAT_SECONDS = 30  # between two heartbeats of a run; Prefect takes no less
HEARTBEAT_TIMEOUT = timedelta(seconds=120)  # four heartbeats missed
START_TIMEOUT = timedelta(seconds=300)  # from a worker's claim to the start of the run, imports included
CANCELLATION_TIMEOUT = timedelta(seconds=180)  # for the process to cancel its jobs and confirm it
STARTS_RESCHEDULED = 3
# Until a crashed run is scheduled again. A worker with a limit counts a run for a moment after its
# process has died, and does not start the same run meanwhile.
RESCHEDULE_DELAY = timedelta(seconds=20)


def _event(*names: str) -> frozenset[str]:
    return frozenset(f"prefect.flow-run.{name}" for name in names)


_HEARTBEAT = _event("heartbeat")
_ENDED = _event("Completed", "Failed", "Crashed", "Cancelled")
_NO_LONGER_RUNNING = _event("Cancelling", "Paused", "Suspended")
_WAITING = _event("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming")


def automations(
    *,
    heartbeat_timeout: timedelta = HEARTBEAT_TIMEOUT,
    reschedule_delay: timedelta = RESCHEDULE_DELAY,
    start_timeout: timedelta = START_TIMEOUT,
    cancellation_timeout: timedelta = CANCELLATION_TIMEOUT,
) -> list[AutomationCore]:
    """The automations of this project. Prefect takes no period below 10 s."""
    return [
        _automation(
            "narration: a silent run has crashed",
            # Also after Running: a run may die before its first heartbeat.
            _absence(
                after=_event("Running") | _HEARTBEAT,
                expect=_HEARTBEAT | _ENDED | _NO_LONGER_RUNNING,
                within=heartbeat_timeout,
            ),
            _set_state(
                StateType.CRASHED,
                "Crashed",
                f"no heartbeat for {_seconds(heartbeat_timeout)}: its worker is gone",
            ),
        ),
        _automation(
            "narration: a crashed run is scheduled again",
            _absence(
                after=_event("Crashed"),
                expect=_event("Pending", "Running", "Completed") | _WAITING,  # somebody scheduled it already
                within=reschedule_delay,
                starts=STARTS_RESCHEDULED,
            ),
            _set_state(
                StateType.SCHEDULED, "AwaitingRetry", "crashed: clips that are stored are not made again"
            ),
        ),
        _automation(
            "narration: a run that never began is handed on",
            _absence(
                after=_event("Pending"),
                expect=_event("Running") | _HEARTBEAT | _ENDED | _NO_LONGER_RUNNING | _WAITING,
                within=start_timeout,
            ),
            _set_state(
                StateType.SCHEDULED,
                "AwaitingRetry",
                f"not started within {_seconds(start_timeout)} after a worker claimed it",
            ),
        ),
        _automation(
            "narration: a cancellation that nobody confirms is done",
            _absence(after=_event("Cancelling"), expect=_ENDED, within=cancellation_timeout),
            _set_state(
                StateType.CANCELLED,
                "Cancelled",
                f"its process did not confirm it within {_seconds(cancellation_timeout)}",
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
        enabled=True,  # stated, since an update sends only the fields that were stated
        trigger=trigger,
        actions=[action],
    )


def _absence(
    *, after: frozenset[str], expect: frozenset[str], within: timedelta, starts: int | None = None
) -> EventTrigger:
    """Fires for each run that sends none of `expect` `within` this time after an event of `after`."""
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
    """Flow runs; with `starts`, those that have started at least once and at most `starts` times."""
    labels: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
    if starts is not None:
        labels["prefect.run-count"] = [str(count) for count in range(1, starts + 1)]
    return ResourceSpecification(labels)


def _set_state(state: StateType, name: str, message: str) -> ChangeFlowRunState:
    # Not forced, so that the server refuses to change the state of a finished run.
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _seconds(period: timedelta) -> str:
    return f"{period.total_seconds():g} s"
