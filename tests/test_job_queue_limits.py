"""The local queue's rules for dead workers, time limits, and how long results are kept."""

from __future__ import annotations

import pytest
from support.job_queue import ManualClock, finish, submit

from infra.local_runpod.ended_jobs import RETENTION, SYNC_RETENTION
from infra.local_runpod.job_queue import PING_TIMEOUT, JobQueue
from infra.local_runpod.queued_job import QueuedJobStatus, UnknownJob


@pytest.fixture
def clock() -> ManualClock:
    """The queue's clock."""
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> JobQueue:
    """An empty queue."""
    return JobQueue(clock=clock)


# Dead workers


def test_a_dead_workers_jobs_go_to_another_first_and_in_order(queue: JobQueue) -> None:
    """They have waited longest, so they are next; the status shows that it is the second dispatch."""
    lost = [submit(queue, str(number)) for number in range(3)]
    queue.take("a", 3)
    waiting = submit(queue, "later")
    queue.worker_gone("a")
    assert lost[0].status_json() == {"id": lost[0].id, "status": "IN_QUEUE"}
    assert queue.take("b", 9) == [*lost, waiting]
    assert lost[0].status_json()["retries"] == 1
    assert lost[0].status_json()["workerId"] == "b"
    assert queue.health()["jobs"]["retried"] == 3


def test_a_job_whose_worker_died_twice_fails_with_runpods_message(queue: JobQueue) -> None:
    """It has no output, which is the sign that the platform and not the worker failed the job."""
    job = submit(queue)
    for worker in "ab":
        queue.take(worker, 1)
        queue.worker_gone(worker)
    status = job.status_json()
    assert status["error"] == "job timed out after 1 retries"
    assert (status["status"], status["retries"]) == ("FAILED", 1)
    assert "output" not in status


def test_a_worker_that_is_gone_gets_no_job(queue: JobQueue) -> None:
    """Not even when another process still asks or pings with its id."""
    job = submit(queue)
    queue.take("a", 1)
    queue.worker_gone("a")
    queue.ping("a", [job.id])
    assert queue.take("a", 1) == []
    assert queue.take("b", 1) == [job]


def test_the_result_of_a_worker_thought_dead_is_taken(queue: JobQueue) -> None:
    """The result is paid for; it is kept, and the job is not dispatched again."""
    job = submit(queue)
    queue.take("a", 1)
    queue.worker_gone("a")
    finish(queue, job)
    assert job.status is QueuedJobStatus.COMPLETED
    assert queue.take("b", 1) == []


def test_a_job_without_pings_is_given_to_another_worker(queue: JobQueue, clock: ManualClock) -> None:
    """A worker keeps the jobs that its pings name and loses the others, whatever else it does."""
    kept, lost = submit(queue), submit(queue)
    queue.take("a", 2)
    for _ in range(10):
        clock.now += PING_TIMEOUT / 2
        queue.ping("a", [kept.id])
        queue.apply_time_limits()
    assert kept.status is QueuedJobStatus.IN_PROGRESS
    assert lost.status is QueuedJobStatus.IN_QUEUE


# Time limits


def test_the_execution_timeout_ends_a_job_and_stops_its_worker(queue: JobQueue, clock: ManualClock) -> None:
    """It counts from the dispatch, not from the submission."""
    job = submit(queue, execution=20.0)
    clock.now += 100
    queue.take("w", 1)
    clock.now += 19
    queue.ping("w", [job.id])
    assert queue.get(job.id).status is QueuedJobStatus.IN_PROGRESS
    clock.now += 2
    assert queue.get(job.id).status is QueuedJobStatus.TIMED_OUT
    assert queue.take_stop_requests("w") == [job.id]


@pytest.mark.parametrize("running", [False, True])
def test_a_job_is_deleted_after_its_time_to_live(queue: JobQueue, clock: ManualClock, running: bool) -> None:
    """It counts from the submission: queued or running, the job is then unknown."""
    job = submit(queue, ttl=60.0)
    if running:
        queue.take("w", 1)
    clock.now += 61
    queue.apply_time_limits()
    with pytest.raises(UnknownJob):
        queue.get(job.id)
    assert queue.take_stop_requests("w") == ([job.id] if running else [])
    assert queue.take("w", 1) == []
    with pytest.raises(UnknownJob):
        finish(queue, job)


def test_an_expired_job_is_not_dispatched(queue: JobQueue, clock: ManualClock) -> None:
    """A job's time limits are applied when it would be dispatched, also between two general checks."""
    submit(queue, ttl=60.0)
    fresh = submit(queue)
    clock.now += 61
    assert queue.take("w", 2) == [fresh]


# How long results are kept


@pytest.mark.parametrize(("sync", "retention"), [(False, RETENTION), (True, SYNC_RETENTION)])
def test_results_are_dropped_after_their_retention(
    queue: JobQueue, clock: ManualClock, sync: bool, retention: float
) -> None:
    """Thirty minutes for a job of /run, one for a job of /runsync."""
    job = submit(queue, sync=sync)
    assert job.id.startswith("sync-") is sync
    queue.take("w", 1)
    finish(queue, job)
    clock.now += retention - 1
    assert queue.get(job.id).output == "clip"
    clock.now += 2
    with pytest.raises(UnknownJob):
        queue.get(job.id)


def test_memory_for_results_is_limited(clock: ManualClock) -> None:
    """The oldest results are dropped early; a queued or running job never is."""
    queue = JobQueue(clock=clock, retained_bytes=3500)
    jobs = [submit(queue, str(number)) for number in range(6)]
    waiting = submit(queue)
    queue.take("w", 6)
    for job in jobs[:5]:
        finish(queue, job)
    for job in jobs[:2]:
        with pytest.raises(UnknownJob):
            queue.get(job.id)
    assert [queue.get(job.id).status for job in [*jobs[2:], waiting]] == [
        *[QueuedJobStatus.COMPLETED] * 3,
        QueuedJobStatus.IN_PROGRESS,
        QueuedJobStatus.IN_QUEUE,
    ]
