"""After a run that was cancelled, killed or lost Prefect's server, the next run pays what is missing."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.prefect_servers import RestartableServer
from support.proxy_actions import call_before

from faults.interruptions import CANCEL_AT, KILL_AT, KillPoint
from faults.machine_faults import stop_without_prefect
from faults.narration_case import CHUNKS, CLOSED_BY_COLLECTOR, NarrationCase
from faults.narration_requests import SUBMIT, NthRequest
from faults.published import Published

pytestmark = CLOSED_BY_COLLECTOR


@pytest.mark.fault_row("two identical runs at once")
def test_two_identical_runs_at_once_publish_one_narration(case: NarrationCase, reference: Published) -> None:
    """Both succeed; at worst both submitted each chunk in the same moment."""
    reports = case.run_twice_at_once()
    assert [report["failed"] for report in reports] == [0, 0]
    assert case.published() == reference
    assert case.services.accepted_jobs <= 2 * CHUNKS
    assert case.stored.job_records() == []


@pytest.mark.fault_row("run cancelled in any of ten phases")
@pytest.mark.parametrize("phase", CANCEL_AT.values(), ids=CANCEL_AT)
def test_a_run_cancelled_in_any_phase_leaves_no_job_running_and_can_be_repeated(
    case: NarrationCase, reference: Published, phase: NthRequest
) -> None:
    """Its jobs are cancelled at the endpoint, stored clips are kept, and the next run makes the others."""
    case.cancel_at(phase)
    assert case.services.unfinished_jobs == 0
    case.wait_for_store_writes()
    stored = len(case.stored.keys("/clips/", ".json"))
    assert case.services.accepted_jobs <= CHUNKS
    case.services.reset()
    report = case.run()
    assert report["synthesized"] == CHUNKS - stored
    assert case.services.accepted_jobs <= CHUNKS - stored
    assert case.published() == reference
    assert case.stored.job_records() == []


@pytest.mark.fault_row("pipeline killed between submission, record and result, or before a record's deletion")
@pytest.mark.fault_row("pipeline killed between audio and sidecar, or between master and manifest")
@pytest.mark.parametrize("point", KILL_AT.values(), ids=KILL_AT)
def test_a_run_after_a_killed_one_pays_only_jobs_without_a_record(
    case: NarrationCase, reference: Published, point: KillPoint
) -> None:
    """A process that is killed loses at most the jobs whose ids were not recorded yet."""
    assert case.kill_at(point.request)
    paid = case.services.accepted_jobs
    known = case.stored.digests("/jobs/") | case.stored.digests("/clips/", ".json")
    case.services.reset()
    assert case.run()["failed"] == 0
    assert case.services.accepted_jobs <= CHUNKS - len(known)
    assert paid - len(known) <= point.unrecorded
    assert case.published() == reference
    assert case.stored.job_records() == []


@pytest.mark.fault_row("Prefect server killed and started again during the run")
def test_a_prefect_server_that_is_restarted_during_a_run_costs_nothing(
    case: NarrationCase, reference: Published, tmp_path: Path
) -> None:
    """The run ends as if the server had been there all the time."""
    with RestartableServer(tmp_path) as prefect:
        case.prefect_url = prefect.url
        case.services.endpoint_proxy.add_rule("POST", SUBMIT, call_before(prefect.restart_soon), skip=1)
        case.run()
    assert case.published() == reference
    assert case.services.accepted_jobs == CHUNKS


@pytest.mark.fault_row("Prefect server gone for good, and the run then stopped")
@pytest.mark.skipif(sys.platform == "win32", reason="one process cannot send another Ctrl-C there")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_without_its_prefect_server_ends_with_a_message_when_it_is_stopped(
    case: NarrationCase, reference: Published, tmp_path: Path, stop: signal.Signals
) -> None:
    """It names the server, keeps what is stored, and does not wait for the server."""
    status, stderr = stop_without_prefect(case, tmp_path, stop)
    assert status in {1, 130}, stderr
    assert "narrate: the Prefect server at" in stderr or "narrate: stopped" in stderr, stderr
    assert "Traceback" not in stderr
    missing = CHUNKS - len(case.stored.keys("/clips/", ".json"))
    paid = case.services.accepted_jobs
    case.services.reset()
    assert case.run()["failed"] == 0
    assert case.published() == reference
    assert paid + case.services.accepted_jobs <= CHUNKS + missing
