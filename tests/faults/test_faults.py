"""Nothing is lost and nothing is paid twice: whole narrations against each class of fault."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.prefect_servers import RestartableServer
from support.proxy import does_first, falls_silent

from faults.machine import (
    artifacts_refused,
    dying_ffmpeg,
    full_disk,
    no_temporary_folder,
    stopped_without_prefect,
)
from faults.matrix import CLIP, ENDPOINT, FOR_GOOD, MANIFEST, OTHER, STORE, WORKER, Fault
from faults.moments import DAMAGE, KILLED, PHASES
from faults.scene import Published, Scene
from narration.errors import NarrationError

pytestmark = [
    # boto3's and Prefect's connections are closed by the garbage collector alone.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("patience_in_seconds"),
]

CHUNKS = 4


@pytest.mark.parametrize("fault", [*ENDPOINT, *WORKER, *STORE, *OTHER], ids=str)
def test_a_narration_outlives_the_fault_or_says_what_to_do(
    scene: Scene, undisturbed: Published, fault: Fault
) -> None:
    """It ends identical, or names chunk and remedy; what is then missing, and nothing else, is paid."""
    fault.arrange(scene)
    if fault.ends == "complete":
        assert scene.run()["synthesized"] == CHUNKS
        assert scene.backstage.unmet() == []
        assert scene.backstage.jobs <= CHUNKS + fault.lost
    else:
        with pytest.raises(NarrationError) as failure:
            scene.run()
        assert [word for word in fault.says if word not in str(failure.value)] == [], str(failure.value)
        assert scene.backstage.unmet() == []
        paid, stored = scene.backstage.jobs, len(scene.keys("/clips/", ".json"))
        scene.backstage.settle()
        assert scene.run()["synthesized"] == CHUNKS - stored
        assert paid + scene.backstage.jobs <= CHUNKS + fault.lost
    assert scene.published() == undisturbed
    assert scene.leftovers() == []


@pytest.mark.parametrize("kinds", [list(DAMAGE)[:4], list(DAMAGE)[4:]], ids=", ".join)
def test_damaged_clips_are_made_again_and_never_published(
    scene: Scene, undisturbed: Published, kinds: list[str]
) -> None:
    """Whatever became of audio or sidecar is a miss, found before anything is published."""
    scene.run()
    clips = scene.keys("/clips/", ".flac")
    scene.damage({clip: DAMAGE[kind] for clip, kind in zip(clips, kinds, strict=False)})
    scene.backstage.settle()
    assert scene.run()["synthesized"] == len(kinds)
    assert scene.backstage.jobs == len(kinds)
    assert scene.published() == undisturbed


PARAGRAPH = """\
The lamp on the landing had been burning since the early afternoon, and nobody had seen it lit.
They went up to it one after the other, with a hand on the rail, and none of them said a word.
At the top of the stairs they found the door wide open, and the room behind it full of smoke.
It was the stove, of course, as it had been the stove in each of the winters before this one.
"""


@pytest.fixture
def continued(scene: Scene) -> Scene:
    """One paragraph of four chunks, each of which continues from the one before."""
    scene.text = PARAGRAPH
    scene.env |= {"NARRATION_CONTINUITY": "true", "NARRATION_CHUNK_CHARACTERS": "100"}
    return scene


def test_a_damaged_clip_that_others_continue_from_is_made_again_before_them(continued: Scene) -> None:
    """Nothing continues from altered sound: the clip is made again, then what was missing after it."""
    continued.run()
    assert continued.backstage.jobs == CHUNKS
    whole = continued.published()
    _, second, third, _ = (chunk["digest"] for chunk in whole.manifest["chunks"])
    (flac,) = continued.keys(second, ".flac")
    continued.replace(flac, lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:])
    continued.delete(*continued.keys(third), *continued.keys("/narrations/"))
    continued.backstage.settle()
    assert continued.run()["synthesized"] == 2
    assert continued.backstage.jobs == 2
    assert continued.published() == whole
    assert continued.leftovers() == []


def test_nothing_is_spoken_on_from_a_chunk_that_failed(continued: Scene) -> None:
    """Those after it in its paragraph cost no job, name the reason, and come with the next run."""
    FOR_GOOD.arrange(continued)
    with pytest.raises(NarrationError) as failure:
        continued.run()
    assert "3 of 4 chunks failed, 1 are stored: chunk 2:" in str(failure.value)
    assert str(failure.value).count("no clip to continue from") == 2
    assert continued.backstage.jobs == 2
    continued.backstage.settle()
    assert continued.run()["synthesized"] == 3
    assert continued.backstage.jobs == 2  # of the job on record, only the news was bad


def test_two_identical_runs_at_once_publish_one_narration(scene: Scene, undisturbed: Published) -> None:
    """Both end well; at worst each chunk was submitted by both in the same moment."""

    reports = scene.run_twice()
    assert [report["failed"] for report in reports] == [0, 0]
    assert scene.published() == undisturbed
    assert scene.backstage.jobs <= 2 * CHUNKS
    assert scene.leftovers() == []


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_cancelled_in_any_phase_leaves_nothing_behind_and_can_be_repeated(
    scene: Scene, undisturbed: Published, phase: str
) -> None:
    """Cancelled jobs are cancelled at the endpoint too, and what was stored is kept."""
    scene.cancel_at(PHASES[phase])
    assert scene.backstage.unfinished == 0  # no job of the cancelled run is still spoken
    scene.let_writes_land()
    stored = len(scene.keys("/clips/", ".json"))
    assert scene.backstage.jobs <= CHUNKS
    scene.backstage.settle()
    report = scene.run()
    assert report["synthesized"] == CHUNKS - stored
    assert scene.backstage.jobs <= CHUNKS - stored
    assert scene.published() == undisturbed
    assert scene.leftovers() == []


@pytest.mark.parametrize("moment", KILLED)
def test_a_pipeline_killed_at_any_point_goes_on_from_there(
    scene: Scene, undisturbed: Published, moment: str
) -> None:
    """SIGKILL costs only the jobs whose ids were not on record yet."""
    assert scene.kill_at(KILLED[moment])
    paid, known = scene.backstage.jobs, scene.digests("/jobs/") | scene.digests("/clips/", ".json")
    scene.backstage.settle()
    assert scene.run()["failed"] == 0
    assert scene.backstage.jobs <= CHUNKS - len(known)
    assert paid - len(known) <= (CHUNKS - 1 if "submission" in moment or "record" in moment else 0)
    assert scene.published() == undisturbed
    assert scene.leftovers() == []


def test_a_prefect_server_restarted_in_mid_run_costs_nothing(
    scene: Scene, undisturbed: Published, tmp_path: Path
) -> None:
    """The run ends as if the server had been there all the time."""
    with RestartableServer(tmp_path) as prefect:
        scene.prefect_url = prefect.url
        scene.backstage.client.rule("POST", "/run$", does_first(prefect.restart_soon), skip=1)
        scene.run()
    assert scene.published() == undisturbed
    assert scene.backstage.jobs == CHUNKS


@pytest.mark.skipif(sys.platform == "win32", reason="one process cannot send another Ctrl-C there")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_whose_prefect_server_is_gone_for_good_ends_with_words_when_it_is_stopped(
    scene: Scene, undisturbed: Published, tmp_path: Path, sent: signal.Signals
) -> None:
    """It says what it misses, keeps what is stored, and does not hang on what it cannot tell anybody."""
    status, told = stopped_without_prefect(scene, tmp_path, sent)
    assert status in {1, 130}, told
    assert "narrate: the Prefect server at" in told or "narrate: stopped" in told, told
    assert "Traceback" not in told
    missing = CHUNKS - len(scene.keys("/clips/", ".json"))
    paid = scene.backstage.jobs
    scene.backstage.settle()
    assert scene.run()["failed"] == 0
    assert scene.published() == undisturbed
    assert paid + scene.backstage.jobs <= CHUNKS + missing


def test_a_machine_that_slept_an_hour_finds_its_clips(scene: Scene, undisturbed: Published) -> None:
    """The pipeline's clock jumps while jobs are spoken, and the clips are taken at the last look."""

    scene.sleep_an_hour()
    assert scene.backstage.unmet() == []
    assert scene.published() == undisturbed
    assert scene.backstage.jobs == CHUNKS


def test_a_store_that_never_answers_is_asked_again(
    scene: Scene, undisturbed: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that hangs ends by the client's own limit, and is repeated."""
    monkeypatch.setattr("narration.store.s3_client.READ_SECONDS", 1)
    for method, path in (("PUT", CLIP), ("GET", CLIP), ("PUT", MANIFEST)):
        scene.backstage.s3.rule(method, path, falls_silent(5))
    scene.run()
    assert scene.published() == undisturbed
    assert scene.backstage.jobs == CHUNKS


def test_a_full_disk_stops_the_run_by_name_and_what_was_paid_is_still_had(
    scene: Scene, undisturbed: Published, tmp_path: Path
) -> None:
    """No room for a clip: the message says so, and with room again nothing is paid twice."""
    store = tmp_path / "store"
    scene.env["NARRATION_STORE"] = str(store)
    with full_disk(), pytest.raises(NarrationError) as failure:
        scene.run()
    assert "no room left" in str(failure.value)
    assert "free some" in str(failure.value)
    assert "chunk 2" in str(failure.value)
    assert scene.backstage.jobs == CHUNKS
    assert not list(store.rglob("*.part"))
    assert scene.run()["synthesized"] == 3
    assert scene.backstage.jobs == CHUNKS
    assert scene.published() == undisturbed


def test_a_page_that_cannot_be_shown_costs_no_narration(scene: Scene, undisturbed: Published) -> None:
    """Prefect refuses every artifact; the narration is made and published all the same."""
    with artifacts_refused():
        scene.run()
    assert scene.published() == undisturbed
    assert scene.backstage.jobs == CHUNKS


@pytest.mark.skipif(sys.platform == "win32", reason="the program that dies is a shell's script")
def test_an_ffmpeg_that_is_killed_is_started_again(
    scene: Scene, undisturbed: Published, tmp_path: Path
) -> None:
    """The first time that it is to work it dies, as where memory is short; the narration does not."""
    scene.env["NARRATION_FFMPEG"] = str(dying_ffmpeg(tmp_path))
    scene.run()
    assert (tmp_path / "died").exists()
    assert scene.published() == undisturbed
    assert scene.backstage.jobs == CHUNKS


def test_a_machine_without_a_place_for_the_master_says_where_one_is_wanted(
    scene: Scene, undisturbed: Published, tmp_path: Path
) -> None:
    """Every clip is stored by then, and the next run pays nothing."""
    with no_temporary_folder(tmp_path / "gone"), pytest.raises(NarrationError) as failure:
        scene.run()
    assert "cannot be put together in the temporary folder" in str(failure.value)
    assert "TMPDIR" in str(failure.value)
    assert failure.value.clips_stored
    assert scene.run()["synthesized"] == 0
    assert scene.published() == undisturbed
    assert scene.backstage.jobs == CHUNKS
