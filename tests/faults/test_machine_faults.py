"""A pipeline's machine that sleeps, has no room, kills ffmpeg or shows no page: no job is paid twice."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from faults.machine_faults import artifacts_refused, dying_ffmpeg, full_disk, no_temporary_folder
from faults.narration_case import CHUNKS, CLOSED_BY_COLLECTOR, NarrationCase
from faults.published import Published
from faults.store_faults import NO_ROOM
from narration.errors import NarrationError

pytestmark = CLOSED_BY_COLLECTOR


@pytest.mark.fault_row("the pipeline's machine sleeps for an hour")
def test_a_machine_that_slept_for_an_hour_fetches_its_results(
    case: NarrationCase, reference: Published
) -> None:
    """Though every job's time limit has passed by the pipeline's clock, one more status request is made."""
    case.run_on_machine_that_sleeps()
    assert case.services.unused_rules() == []
    assert case.published() == reference
    assert case.services.accepted_jobs == CHUNKS


@pytest.mark.fault_row(NO_ROOM)
def test_a_full_disk_stops_the_run_with_a_remedy_and_no_job_is_paid_twice(
    case: NarrationCase, reference: Published, tmp_path: Path
) -> None:
    """The message names a chunk and what to do; with room again, the next run fetches the paid results."""
    store = tmp_path / "store"
    case.env["NARRATION_STORE"] = str(store)
    with full_disk(), pytest.raises(NarrationError) as failure:
        case.run()
    assert "no room left" in str(failure.value)
    assert "free some" in str(failure.value)
    assert "chunk 2" in str(failure.value)
    assert case.services.accepted_jobs == CHUNKS
    assert not list(store.rglob("*.part"))
    assert case.run()["synthesized"] == 3
    assert case.services.accepted_jobs == CHUNKS
    assert case.published() == reference


@pytest.mark.fault_row("Prefect server refuses every artifact")
def test_a_narration_is_published_though_prefect_refuses_every_artifact(
    case: NarrationCase, reference: Published
) -> None:
    """Pages in Prefect's UI are missing then; nothing else is."""
    with artifacts_refused():
        case.run()
    assert case.published() == reference
    assert case.services.accepted_jobs == CHUNKS


@pytest.mark.fault_row("ffmpeg killed while it encodes")
@pytest.mark.skipif(sys.platform == "win32", reason="the program that dies is a shell script")
def test_an_ffmpeg_that_is_killed_is_started_again(
    case: NarrationCase, reference: Published, tmp_path: Path
) -> None:
    """It is killed at its first work, as where memory is short, and the master is made all the same."""
    case.env["NARRATION_FFMPEG"] = str(dying_ffmpeg(tmp_path))
    case.run()
    assert (tmp_path / "died").exists()
    assert case.published() == reference
    assert case.services.accepted_jobs == CHUNKS


@pytest.mark.fault_row("no folder for temporary files")
def test_a_missing_temporary_folder_stops_the_run_with_a_remedy(
    case: NarrationCase, reference: Published, tmp_path: Path
) -> None:
    """The message names the folder's setting; every clip is stored by then, and the next run pays nothing."""
    with no_temporary_folder(tmp_path / "missing"), pytest.raises(NarrationError) as failure:
        case.run()
    assert "cannot be put together in the temporary folder" in str(failure.value)
    assert "TMPDIR" in str(failure.value)
    assert failure.value.clips_stored
    assert case.run()["synthesized"] == 0
    assert case.published() == reference
    assert case.services.accepted_jobs == CHUNKS
