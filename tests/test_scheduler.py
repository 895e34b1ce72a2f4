"""Scheduler: which sequence holds which slot."""

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
    """As many run as there are slots, in order; the rest wait."""
    sequences = [sequence() for _ in range(3)]
    scheduler = Scheduler(2)
    for one in sequences:
        scheduler.add(one)
    assert scheduler.schedule() == sequences[:2]
    assert [one.slot for one in sequences[:2]] == [0, 1]
    assert [one.status for one in sequences] == [Status.RUNNING, Status.RUNNING, Status.WAITING]
    assert scheduler.schedule() == []


def test_a_freed_slot_goes_to_the_sequence_that_waited_longest() -> None:
    """One sequence finishes, the next one gets its slot."""
    sequences = [sequence(), sequence(max_steps=8), sequence()]
    scheduler = scheduled(2, *sequences)
    scheduler.count_launched(8)
    assert scheduler.postprocess([]) == [sequences[1]]
    assert sequences[1].status is Status.FINISHED
    assert scheduler.schedule() == [sequences[2]]
    assert sequences[2].slot == 1


def test_a_sequence_finishes_at_its_max_steps() -> None:
    """Step 0 counts: 9 steps are reached after 8 more."""
    one = sequence(max_steps=9)
    scheduler = scheduled(1, one)
    scheduler.count_launched(7)
    assert scheduler.postprocess([]) == []
    scheduler.count_launched(1)
    assert scheduler.postprocess([]) == [one]
    assert one.steps_needed == 9


def test_a_sequence_finishes_seven_steps_after_its_first_end_code() -> None:
    """With an end code at step 5 it runs until step 11 has been launched."""
    one = sequence()
    scheduler = scheduled(1, one)
    scheduler.count_launched(8)  # steps 1 to 8
    assert scheduler.postprocess([(one, 5)]) == []
    scheduler.count_launched(8)
    assert scheduler.postprocess([]) == [one]
    assert one.steps_needed == 12


def test_a_late_end_code_of_a_finished_sequence_changes_no_other() -> None:
    """End codes name the sequence, not the slot: the slot's next sequence goes on."""
    finished, following = sequence(max_steps=8), sequence()
    scheduler = scheduled(1, finished, following)
    scheduler.count_launched(8)
    scheduler.postprocess([])
    scheduler.schedule()
    assert following.slot == finished.slot
    assert scheduler.postprocess([(finished, 2)]) == []
    assert following.first_end is None


def test_dropping_frees_the_slot_of_a_running_sequence_only() -> None:
    """Dropping a waiting sequence moves no other; dropping one twice does nothing."""
    running, waiting, last = sequence(), sequence(), sequence()
    scheduler = scheduled(1, running, waiting, last)
    assert not scheduler.drop(waiting)
    assert scheduler.unfinished() == [running, last]
    assert scheduler.drop(running)
    assert not scheduler.drop(running)
    assert scheduler.schedule() == [last]
    assert [one.status for one in (running, waiting)] == [Status.DROPPED, Status.DROPPED]


def test_the_scheduler_is_idle_with_nothing_running_and_nothing_waiting() -> None:
    """Only then may the step loop sleep."""
    one = sequence(max_steps=1)
    scheduler = Scheduler(1)
    assert scheduler.idle
    scheduler.add(one)
    assert not scheduler.idle
    scheduler.schedule()
    assert not scheduler.idle
    scheduler.postprocess([])
    assert scheduler.idle
