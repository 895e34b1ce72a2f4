"""Bad audio from a worker is found before it is stored, in whole narrations through the real loop."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from support.proxy import sends_instead

from faults.bad_audio import BAD, of_waveform, posts
from faults.matrix import DONE, second_job_ends
from faults.scene import Scene
from narration.errors import ChunksFailed

pytestmark = [
    # boto3's and Prefect's connections are closed by the garbage collector alone.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("patience_in_seconds"),
]


@pytest.mark.parametrize("kinds", [list(BAD)[:4], list(BAD)[4:8], list(BAD)[8:]], ids=", ".join)
def test_bad_audio_is_tried_again_with_another_seed_and_never_stored(scene: Scene, kinds: list[str]) -> None:
    """Each chunk's first answer is bad in a way of its own; each sidecar tells of it, each second is kept."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    for place, kind in enumerate(kinds):
        scene.backstage.worker.rule("POST", DONE, sends_instead(posts(BAD[kind][0])), skip=place)
    report = scene.run()
    assert (report["failed"], report["flagged"]) == (0, [])
    assert scene.backstage.jobs == 8
    for kind, chunk in zip(kinds, scene.published().manifest["chunks"], strict=True):
        assert chunk["attempt"] == 2
        assert len(chunk["refused"]) == 1
        assert BAD[kind][1] in chunk["refused"][0], (kind, chunk["refused"])
        assert (chunk["flags"], chunk["score"] > 0.5) == ([], True)


def test_a_chunk_that_never_comes_out_right_fails_by_name_and_the_rest_is_stored(scene: Scene) -> None:
    """Every attempt is told with its reason; the next run makes that chunk alone."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    scene.backstage.worker.rule("POST", DONE, sends_instead(posts(BAD["silence"][0])), skip=1, times=3)
    with pytest.raises(ChunksFailed) as failure:
        scene.run()
    told = str(failure.value)
    assert "1 of 4 chunks failed, 3 are stored: chunk 2:" in told
    assert told.count("silent") == 3
    assert "start the same command again" in told
    assert scene.backstage.jobs == 6
    assert len(scene.keys("/clips/", ".flac")) == 3
    assert scene.leftovers() == []
    scene.backstage.settle()
    assert scene.run()["synthesized"] == 1
    assert scene.backstage.jobs == 1


def test_the_best_of_bad_attempts_is_kept_and_marked(scene: Scene) -> None:
    """Clipped thrice, once a little less: that one is kept, in manifest and table marked as doubtful."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    worse = of_waveform(lambda wave: np.tile(np.clip(wave * 30, -1, 1), 6))
    for change in (worse, BAD["clipping"][0], worse):
        scene.backstage.worker.rule("POST", DONE, sends_instead(posts(change)), skip=1)
    report = scene.run()
    assert report["flagged"] == [2]
    chunk = scene.published().manifest["chunks"][1]
    assert chunk["attempt"] == 2
    assert len(chunk["refused"]) == 2
    kinds = {flag.partition(":")[0] for flag in chunk["flags"]}
    assert "clipping" in kinds
    assert "too-long" not in kinds
    rows = asyncio.run(_table(scene))
    assert "clipping" in rows[1]["doubts"]
    assert rows[1]["attempts"] == 3
    assert [row["doubts"] for row in rows if row["chunk"] != 2] == ["", "", ""]
    scene.backstage.settle()
    assert scene.run()["synthesized"] == 0  # it is a clip like any other; a person decides


def test_an_attempt_lost_after_a_doubtful_one_is_not_the_last(scene: Scene) -> None:
    """The first attempt clips, the job of the second is lost: the third is made, and is good."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    scene.backstage.worker.rule("POST", DONE, sends_instead(posts(BAD["clipping"][0])))
    second_job_ends(status="TIMED_OUT")(scene)
    report = scene.run()
    assert report["flagged"] == []
    chunk = scene.published().manifest["chunks"][0]
    assert chunk["attempt"] == 3
    assert "clipping" in chunk["refused"][0]
    assert "given up" in chunk["refused"][1]
    assert scene.backstage.jobs == scene.published().manifest["cost"]["jobs"] == 6


def test_what_was_refused_before_a_lost_job_is_told_and_every_job_is_counted(scene: Scene) -> None:
    """The first attempt is silent, the job of the second is lost and submitted again: all of it is told."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    scene.backstage.worker.rule("POST", DONE, sends_instead(posts(BAD["silence"][0])))
    second_job_ends(status="FAILED", error="job timed out after 1 retries", retries=1)(scene)
    scene.run()
    manifest = scene.published().manifest
    chunk = manifest["chunks"][0]
    assert (chunk["attempt"], len(chunk["refused"])) == (2, 1)
    assert "silent" in chunk["refused"][0]
    assert scene.backstage.jobs == manifest["cost"]["jobs"] == 6


async def _table(scene: Scene) -> list[dict[str, Any]]:
    """The chunk table as the UI shows it."""
    import json

    import httpx

    async with httpx.AsyncClient(base_url=scene.prefect_url, timeout=30) as client:
        asked = {"artifacts": {"key": {"any_": ["chunks-four-draft"]}}, "sort": "UPDATED_DESC"}
        found = (await client.post("artifacts/filter", json=asked)).raise_for_status().json()
    rows: list[dict[str, Any]] = json.loads(found[0]["data"])
    return rows
