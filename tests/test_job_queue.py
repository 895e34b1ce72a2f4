"""The local queue's rules, with a clock in hand and no process anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local_runpod.job_queue import RETENTION, SYNC_RETENTION, WORKER_SILENCE, JobQueue
from infra.local_runpod.jobs import JobStatus, NotRetryable, Policy, QueuedJob, UnknownJob


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Time."""
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> JobQueue:
    """An empty queue in that time."""
    return JobQueue(clock=clock)


def submit(queue: JobQueue, prompt: str = "x", *, sync: bool = False, **policy: float) -> QueuedJob:
    """One job."""
    return queue.submit({"prompt": prompt}, size=100, policy=Policy(**policy), sync=sync)


def finish(queue: JobQueue, job: QueuedJob, output: Any = "clip", error: Any = None) -> None:
    """A worker's answer."""
    queue.finish(job.id, output=output, error=error, size=1000)


def test_a_job_goes_from_queue_to_worker_to_result(queue: JobQueue, clock: Clock) -> None:
    """Each step shows in the status, with what RunPod shows of it and no more."""
    job = submit(queue)
    assert queue.get(job.id).as_status() == {"id": job.id, "status": "IN_QUEUE"}
    clock.now += 2.5
    assert queue.take("w", 4) == [job]
    assert job.as_taken() == {"id": job.id, "input": {"prompt": "x"}}
    taken = {"id": job.id, "status": "IN_PROGRESS", "delayTime": 2500, "workerId": "w"}
    assert job.as_status() == taken
    clock.now += 1.25
    finish(queue, job)
    assert job.as_status() == {**taken, "status": "COMPLETED", "executionTime": 1250, "output": "clip"}


def test_jobs_are_taken_in_order_and_once(queue: JobQueue) -> None:
    """A batch is the oldest jobs, and no job is in two hands."""
    jobs = [submit(queue, str(number)) for number in range(5)]
    assert queue.take("a", 2) == jobs[:2]
    assert queue.take("b", 9) == jobs[2:]
    assert queue.take("a", 9) == []


def test_an_empty_input_is_dropped(queue: JobQueue) -> None:
    """RunPod's trap: such a job reaches the worker without the field."""
    job = queue.submit({}, size=2, policy=Policy())
    assert job.as_taken() == {"id": job.id}


def test_an_error_fails_the_job_and_keeps_the_rest_of_the_answer(queue: JobQueue) -> None:
    """A worker's error code beside its error survives."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job, output={"error_code": "engine_failure"}, error="it broke")
    status = job.as_status()
    assert (status["status"], status["error"]) == ("FAILED", "it broke")
    assert status["output"] == {"error_code": "engine_failure"}


def test_a_result_without_output_completes_without_output(queue: JobQueue) -> None:
    """How a lost result looks at RunPod."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job, output=None)
    assert job.status is JobStatus.COMPLETED
    assert "output" not in job.as_status()


def test_the_first_result_counts(queue: JobQueue) -> None:
    """A job that ran twice has one answer, the one that clients may have read."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job, "first")
    finish(queue, job, "second", error="late")
    assert (job.status, job.output) == (JobStatus.COMPLETED, "first")


def test_progress_shows_while_in_progress_only(queue: JobQueue) -> None:
    """An update that comes after the result does not replace it."""
    job = submit(queue)
    queue.take("w", 1)
    queue.progress(job.id, "half")
    assert job.as_status()["output"] == "half"
    finish(queue, job)
    queue.progress(job.id, "half again")
    assert job.as_status()["output"] == "clip"


def test_a_queued_job_is_cancelled_at_once(queue: JobQueue) -> None:
    """No worker gets it any more."""
    job = submit(queue)
    assert queue.cancel(job.id).status is JobStatus.CANCELLED
    assert queue.take("w", 1) == []


def test_a_running_job_is_cancelled_and_its_worker_told_once(queue: JobQueue) -> None:
    """The stop goes to the worker that has it, and its late result changes nothing."""
    job = submit(queue)
    queue.take("a", 1)
    queue.take("b", 1)
    queue.cancel(job.id)
    assert queue.stops("b") == []
    assert queue.stops("a") == [job.id]
    assert queue.stops("a") == []
    finish(queue, job)
    assert job.as_status()["status"] == "CANCELLED"
    assert "output" not in job.as_status()


def test_a_worker_that_still_holds_a_cancelled_job_is_told_again(queue: JobQueue) -> None:
    """A stop that came before the job had begun was lost on the worker; its ping shows it."""
    job = submit(queue)
    queue.take("w", 1)
    queue.cancel(job.id)
    queue.stops("w")
    queue.ping("w", [job.id, "forgotten"])
    assert queue.stops("w") == [job.id, "forgotten"]


def test_cancelling_what_has_ended_changes_nothing(queue: JobQueue) -> None:
    """A result is not lost to a cancel that comes late."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job)
    assert queue.cancel(job.id).status is JobStatus.COMPLETED
    assert queue.stops("w") == []


def test_a_dead_workers_jobs_go_to_another_first_and_in_order(queue: JobQueue) -> None:
    """They waited longest, so they are next; the status says that it is the second try."""
    lost = [submit(queue, str(number)) for number in range(3)]
    queue.take("a", 3)
    waiting = submit(queue, "later")
    queue.worker_gone("a")
    assert lost[0].as_status() == {"id": lost[0].id, "status": "IN_QUEUE"}
    assert queue.take("b", 9) == [*lost, waiting]
    assert lost[0].as_status()["retries"] == 1
    assert lost[0].as_status()["workerId"] == "b"
    assert queue.health()["jobs"]["retried"] == 3


def test_a_job_lost_twice_fails_in_runpods_words(queue: JobQueue) -> None:
    """Without output: the sign that the platform and not the worker failed it."""
    job = submit(queue)
    for worker in "ab":
        queue.take(worker, 1)
        queue.worker_gone(worker)
    status = job.as_status()
    assert status["error"] == "job timed out after 1 retries"
    assert (status["status"], status["retries"]) == ("FAILED", 1)
    assert "output" not in status


def test_a_worker_that_is_gone_gets_nothing(queue: JobQueue) -> None:
    """Not even when something goes on asking or pinging in its name."""
    job = submit(queue)
    queue.take("a", 1)
    queue.worker_gone("a")
    queue.ping("a", [job.id])
    assert queue.take("a", 1) == []
    assert queue.take("b", 1) == [job]


def test_the_result_of_a_worker_thought_dead_is_taken(queue: JobQueue) -> None:
    """What was paid for is not thrown away, nor made a second time if nobody has begun."""
    job = submit(queue)
    queue.take("a", 1)
    queue.worker_gone("a")
    finish(queue, job)
    assert job.status is JobStatus.COMPLETED
    assert queue.take("b", 1) == []


def test_a_job_without_a_sign_of_life_is_given_to_another(queue: JobQueue, clock: Clock) -> None:
    """Pings that name the job keep it; silence about it loses it, whatever else the worker does."""
    kept, lost = submit(queue), submit(queue)
    queue.take("a", 2)
    for _ in range(10):
        clock.now += WORKER_SILENCE / 2
        queue.ping("a", [kept.id])
        queue.sweep()
    assert kept.status is JobStatus.IN_PROGRESS
    assert lost.status is JobStatus.IN_QUEUE


def test_execution_timeout_ends_a_job_and_stops_its_worker(queue: JobQueue, clock: Clock) -> None:
    """Counted from dispatch, not from submission."""
    job = submit(queue, execution=20.0)
    clock.now += 100
    queue.take("w", 1)
    clock.now += 19
    queue.ping("w", [job.id])
    assert queue.get(job.id).status is JobStatus.IN_PROGRESS
    clock.now += 2
    assert queue.get(job.id).status is JobStatus.TIMED_OUT
    assert queue.stops("w") == [job.id]


@pytest.mark.parametrize("running", [False, True])
def test_time_to_live_deletes_a_job_wherever_it_is(queue: JobQueue, clock: Clock, running: bool) -> None:
    """Counted from submission: queued or running, it is gone, as if it had never been."""
    job = submit(queue, life=60.0)
    if running:
        queue.take("w", 1)
    clock.now += 61
    queue.sweep()
    with pytest.raises(UnknownJob):
        queue.get(job.id)
    assert queue.stops("w") == ([job.id] if running else [])
    assert queue.take("w", 1) == []
    with pytest.raises(UnknownJob):
        finish(queue, job)


def test_an_expired_job_is_not_dispatched_between_sweeps(queue: JobQueue, clock: Clock) -> None:
    """Time is applied to a job in the moment it would be handed out."""
    submit(queue, life=60.0)
    fresh = submit(queue)
    clock.now += 61
    assert queue.take("w", 2) == [fresh]


@pytest.mark.parametrize(("sync", "retention"), [(False, RETENTION), (True, SYNC_RETENTION)])
def test_results_are_forgotten_after_their_retention(
    queue: JobQueue, clock: Clock, sync: bool, retention: float
) -> None:
    """Thirty minutes for /run, one for /runsync."""
    job = submit(queue, sync=sync)
    assert job.id.startswith("sync-") is sync
    queue.take("w", 1)
    finish(queue, job)
    clock.now += retention - 1
    assert queue.get(job.id).output == "clip"
    clock.now += 2
    with pytest.raises(UnknownJob):
        queue.get(job.id)


def test_memory_for_results_is_bounded(clock: Clock) -> None:
    """The oldest results go early; what waits or runs never does."""
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
        *[JobStatus.COMPLETED] * 3,
        JobStatus.IN_PROGRESS,
        JobStatus.IN_QUEUE,
    ]


def test_a_failed_job_can_be_retried_under_its_id(queue: JobQueue) -> None:
    """Same input, old answer gone, two dispatches again."""
    job = submit(queue, "once more")
    queue.take("w", 1)
    finish(queue, job, output={"error_code": "x"}, error="it broke")
    queue.retry(job.id)
    assert job.as_status() == {"id": job.id, "status": "IN_QUEUE"}
    assert queue.take("w", 1)[0].as_taken() == {"id": job.id, "input": {"prompt": "once more"}}
    finish(queue, job)
    assert "error" not in job.as_status()
    with pytest.raises(NotRetryable):
        queue.retry(job.id)


def test_purging_removes_what_waits_and_nothing_else(queue: JobQueue) -> None:
    """Jobs that a worker has taken are paid for and stay."""
    running = submit(queue)
    queue.take("w", 1)
    waiting = [submit(queue) for _ in range(3)]
    assert queue.purge() == 3
    assert queue.get(running.id).status is JobStatus.IN_PROGRESS
    with pytest.raises(UnknownJob):
        queue.get(waiting[0].id)


def test_health_counts_jobs_and_workers(queue: JobQueue) -> None:
    """The numbers a preflight reads."""
    queue.worker_starting("a")
    queue.worker_starting("b")
    assert queue.health()["workers"]["initializing"] == 2
    for _ in range(4):
        submit(queue)
    first, second = queue.take("a", 2)
    queue.take("b", 0)
    finish(queue, first)
    finish(queue, second, error="no")
    queue.take("b", 1)
    assert queue.health() == {
        "jobs": {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 1, "retried": 0},
        "workers": {"idle": 1, "initializing": 0, "ready": 2, "running": 1, "throttled": 0, "unhealthy": 0},
    }


def test_whoever_waits_is_told_of_every_change(clock: Clock) -> None:
    """A poll that is held open hears of new jobs, stops and ends at once."""
    told: list[None] = []
    queue = JobQueue(clock=clock, on_change=lambda: told.append(None))
    job = submit(queue)
    after_submit = len(told)
    queue.take("w", 1)
    before_cancel = len(told)
    queue.cancel(job.id)
    assert after_submit > 0
    assert len(told) > before_cancel
