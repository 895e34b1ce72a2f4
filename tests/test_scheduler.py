"""The scheduler: who holds which slot. Pure Python, tested as such."""

from __future__ import annotations

from gpu_worker.higgs.prompt import Prompt
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.scheduler import Scheduler
from gpu_worker.higgs.sequence import Sequence, Status

GREEDY = Sampling(temperature=0, top_k=1, top_p=1, seed=0, ras_window=0, ras_repeats=0)


def sequence(max_steps: int = 100) -> Sequence:
    return Sequence(Prompt((), ()), GREEDY, max_steps)


def scheduled(slots: int, *sequences: Sequence) -> Scheduler:
    scheduler = Scheduler(slots)
    for one in sequences:
        scheduler.add(one)
    scheduler.schedule()
    return scheduler


def test_first_come_first_served_into_the_lowest_slot() -> None:
    """As many enter as there are slots, in order; the rest wait."""
    requests = [sequence() for _ in range(3)]
    scheduler = Scheduler(2)
    for one in requests:
        scheduler.add(one)
    assert scheduler.schedule() == requests[:2]
    assert [one.slot for one in requests[:2]] == [0, 1]
    assert [one.status for one in requests] == [Status.RUNNING, Status.RUNNING, Status.WAITING]
    assert scheduler.schedule() == []


def test_a_freed_slot_is_taken_by_whoever_waited_longest() -> None:
    """One row ends, one enters, and it gets the slot that became free."""
    requests = [sequence(), sequence(max_steps=8), sequence()]
    scheduler = scheduled(2, *requests)
    scheduler.launched(8)
    assert scheduler.postprocess([]) == [requests[1]]
    assert requests[1].status is Status.FINISHED
    assert scheduler.schedule() == [requests[2]]
    assert requests[2].slot == 1


def test_a_row_ends_at_its_cap() -> None:
    """The begin step counts: a cap of 9 is reached after 8 more."""
    one = sequence(max_steps=9)
    scheduler = scheduled(1, one)
    scheduler.launched(7)
    assert scheduler.postprocess([]) == []
    scheduler.launched(1)
    assert scheduler.postprocess([]) == [one]
    assert one.last_step == 9


def test_a_row_ends_seven_steps_after_its_first_end_code() -> None:
    """Seen at step 5, the row is kept until step 11 has been launched."""
    one = sequence()
    scheduler = scheduled(1, one)
    scheduler.launched(8)  # steps 1 to 8
    assert scheduler.postprocess([(one, 5)]) == []
    scheduler.launched(8)
    assert scheduler.postprocess([]) == [one]
    assert one.last_step == 12


def test_a_late_report_about_a_row_that_left_touches_nobody() -> None:
    """Reports name the request, not the slot: the slot's next holder is not ended by it."""
    gone, next_one = sequence(max_steps=8), sequence()
    scheduler = scheduled(1, gone, next_one)
    scheduler.launched(8)
    scheduler.postprocess([])
    scheduler.schedule()
    assert next_one.slot == gone.slot
    assert scheduler.postprocess([(gone, 2)]) == []
    assert next_one.first_end is None


def test_dropping_frees_the_slot_of_a_running_request_only() -> None:
    """Dropped while waiting: nobody else moves. Dropped twice, or after its end: nothing happens."""
    running, waiting, last = sequence(), sequence(), sequence()
    scheduler = scheduled(1, running, waiting, last)
    assert not scheduler.drop(waiting)
    assert scheduler.everyone() == [running, last]
    assert scheduler.drop(running)
    assert not scheduler.drop(running)
    assert scheduler.schedule() == [last]
    assert [one.status for one in (running, waiting)] == [Status.DROPPED, Status.DROPPED]


def test_idle_is_nobody_running_and_nobody_waiting() -> None:
    """Only then may the loop sleep."""
    one = sequence(max_steps=1)
    scheduler = Scheduler(1)
    assert scheduler.idle
    scheduler.add(one)
    assert not scheduler.idle
    scheduler.schedule()
    assert not scheduler.idle
    scheduler.postprocess([])
    assert scheduler.idle
