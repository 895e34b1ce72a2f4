"""The local queue's rules for jobs and workers that live: dispatch, results, cancelling, retrying, counts."""

from __future__ import annotations

import pytest
from support.job_queue import ManualClock, finish, submit

from infra.local_runpod.job_queue import JobQueue
from infra.local_runpod.queued_job import NotRetryable, QueuedJobStatus, TimeLimits, UnknownJob


@pytest.fixture
def clock() -> ManualClock:
    """The queue's clock."""
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> JobQueue:
    """An empty queue."""
    return JobQueue(clock=clock)


def test_a_job_goes_from_queue_to_worker_to_result(queue: JobQueue, clock: ManualClock) -> None:
    """At each step the status shows the fields that RunPod shows, and no more."""
    job = submit(queue)
    assert queue.get(job.id).status_json() == {"id": job.id, "status": "IN_QUEUE"}
    clock.now += 2.5
    assert queue.take("w", 4) == [job]
    assert job.dispatch_json() == {"id": job.id, "input": {"prompt": "x"}}
    running = {"id": job.id, "status": "IN_PROGRESS", "delayTime": 2500, "workerId": "w"}
    assert job.status_json() == running
    clock.now += 1.25
    finish(queue, job)
    assert job.status_json() == {**running, "status": "COMPLETED", "executionTime": 1250, "output": "clip"}


def test_jobs_are_taken_in_order_and_once(queue: JobQueue) -> None:
    """A batch holds the oldest jobs, and no two workers get the same job."""
    jobs = [submit(queue, str(number)) for number in range(5)]
    assert queue.take("a", 2) == jobs[:2]
    assert queue.take("b", 9) == jobs[2:]
    assert queue.take("a", 9) == []


def test_an_empty_input_is_dropped(queue: JobQueue) -> None:
    """As at RunPod, a job with an empty input reaches the worker without the field `input`."""
    job = queue.submit({}, size=2, limits=TimeLimits())
    assert job.dispatch_json() == {"id": job.id}


def test_an_error_fails_the_job_and_keeps_the_output(queue: JobQueue) -> None:
    """A worker's error code, which is in the output beside the error, is kept."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job, output={"error_code": "engine_failure"}, error="it broke")
    status = job.status_json()
    assert (status["status"], status["error"]) == ("FAILED", "it broke")
    assert status["output"] == {"error_code": "engine_failure"}


def test_a_result_without_output_completes_without_output(queue: JobQueue) -> None:
    """RunPod shows a lost result in this way."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job, output=None)
    assert job.status is QueuedJobStatus.COMPLETED
    assert "output" not in job.status_json()


def test_the_first_result_counts(queue: JobQueue) -> None:
    """A job that ran twice keeps the result that clients may have read already."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job, "first")
    finish(queue, job, "second", error="late")
    assert (job.status, job.output) == (QueuedJobStatus.COMPLETED, "first")


def test_progress_is_shown_only_while_the_job_is_in_progress(queue: JobQueue) -> None:
    """An update that arrives after the result does not replace the result."""
    job = submit(queue)
    queue.take("w", 1)
    queue.progress(job.id, "half")
    assert job.status_json()["output"] == "half"
    finish(queue, job)
    queue.progress(job.id, "half again")
    assert job.status_json()["output"] == "clip"


def test_a_queued_job_is_cancelled_at_once(queue: JobQueue) -> None:
    """No worker gets the job any more."""
    job = submit(queue)
    assert queue.cancel(job.id).status is QueuedJobStatus.CANCELLED
    assert queue.take("w", 1) == []


def test_a_running_job_is_cancelled_and_its_worker_asked_once_to_stop_it(queue: JobQueue) -> None:
    """The request goes to the worker that has the job, whose late result changes nothing."""
    job = submit(queue)
    queue.take("a", 1)
    queue.take("b", 1)
    queue.cancel(job.id)
    assert queue.take_stop_requests("b") == []
    assert queue.take_stop_requests("a") == [job.id]
    assert queue.take_stop_requests("a") == []
    finish(queue, job)
    assert job.status_json()["status"] == "CANCELLED"
    assert "output" not in job.status_json()


def test_a_worker_that_still_works_on_a_cancelled_job_is_asked_again_to_stop_it(queue: JobQueue) -> None:
    """The SDK ignores a request that comes before the job has begun; the worker's ping shows the job."""
    job = submit(queue)
    queue.take("w", 1)
    queue.cancel(job.id)
    queue.take_stop_requests("w")
    queue.ping("w", [job.id, "forgotten"])
    assert queue.take_stop_requests("w") == [job.id, "forgotten"]


def test_cancelling_a_job_that_has_ended_changes_nothing(queue: JobQueue) -> None:
    """A cancellation that comes late does not take away the result."""
    job = submit(queue)
    queue.take("w", 1)
    finish(queue, job)
    assert queue.cancel(job.id).status is QueuedJobStatus.COMPLETED
    assert queue.take_stop_requests("w") == []


def test_a_failed_job_can_be_retried_under_its_id(queue: JobQueue) -> None:
    """The input stays, the result goes, and the job may be dispatched twice again."""
    job = submit(queue, "once more")
    queue.take("w", 1)
    finish(queue, job, output={"error_code": "x"}, error="it broke")
    queue.retry(job.id)
    assert job.status_json() == {"id": job.id, "status": "IN_QUEUE"}
    assert queue.take("w", 1)[0].dispatch_json() == {"id": job.id, "input": {"prompt": "once more"}}
    finish(queue, job)
    assert "error" not in job.status_json()
    with pytest.raises(NotRetryable):
        queue.retry(job.id)


def test_purging_removes_queued_jobs_and_no_others(queue: JobQueue) -> None:
    """Jobs that a worker has taken are paid for and stay."""
    running = submit(queue)
    queue.take("w", 1)
    waiting = [submit(queue) for _ in range(3)]
    assert queue.purge() == 3
    assert queue.get(running.id).status is QueuedJobStatus.IN_PROGRESS
    with pytest.raises(UnknownJob):
        queue.get(waiting[0].id)


def test_health_counts_jobs_and_workers(queue: JobQueue) -> None:
    """These are the counts that a preflight reads."""
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


def test_every_change_is_notified(clock: ManualClock) -> None:
    """A request that waits for the queue is woken by new jobs, requests to stop and ends."""
    changes: list[None] = []
    queue = JobQueue(clock=clock, on_change=lambda: changes.append(None))
    job = submit(queue)
    after_submit = len(changes)
    queue.take("w", 1)
    before_cancel = len(changes)
    queue.cancel(job.id)
    assert after_submit > 0
    assert len(changes) > before_cancel
