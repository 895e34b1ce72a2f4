"""Bad audio from a worker is refused before it is stored, and the chunk is tried again with another seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from support.proxy_actions import edit_request

from faults.bad_audio import BAD_AUDIO, Output, result_with, with_waveform
from faults.endpoint_faults import second_job_ends
from faults.narration_case import CLOSED_BY_COLLECTOR, NarrationCase
from faults.narration_requests import POST_RESULT
from narration.errors import ChunksFailed

pytestmark = [
    *CLOSED_BY_COLLECTOR,
    pytest.mark.fault_row(
        "bad audio: no audio, wrong rate, length or seed, NaN, silent, clipping, too short, too long, cut off"
    ),
]


@pytest.fixture
def in_order(case: NarrationCase) -> NarrationCase:
    """A narration that submits one job at a time."""
    case.env["NARRATION_CONCURRENCY"] = "1"
    return case


def post_instead(case: NarrationCase, change: Callable[[Output], Output], **when: int) -> None:
    """Change the output of one result that the worker posts, or of those that `when` chooses."""
    action = edit_request(result_with(change))
    case.services.worker_proxy.add_rule("POST", POST_RESULT, action, **when)


def shown_chunks(case: NarrationCase) -> list[dict[str, Any]]:
    """The rows of the table of chunks in Prefect's UI."""
    request = {"artifacts": {"key": {"any_": ["chunks-four-draft"]}}, "sort": "UPDATED_DESC"}
    answer = httpx.post(f"{case.prefect_url}/artifacts/filter", json=request, timeout=30)
    rows: list[dict[str, Any]] = json.loads(answer.raise_for_status().json()[0]["data"])
    return rows


@pytest.mark.parametrize(
    "kinds", [list(BAD_AUDIO)[:4], list(BAD_AUDIO)[4:8], list(BAD_AUDIO)[8:]], ids=", ".join
)
def test_bad_audio_is_tried_again_with_another_seed_and_never_stored(
    in_order: NarrationCase, kinds: list[str]
) -> None:
    """Each chunk's first result is bad in another way: the second is stored, with the reason for it."""
    for number, kind in enumerate(kinds):
        post_instead(in_order, BAD_AUDIO[kind].change, skip=number)
    report = in_order.run()
    assert (report["failed"], report["flagged"]) == (0, [])
    assert in_order.services.accepted_jobs == 8
    for kind, chunk in zip(kinds, in_order.published().manifest["chunks"], strict=True):
        assert chunk["attempt"] == 2
        assert len(chunk["refused"]) == 1
        assert BAD_AUDIO[kind].reason in chunk["refused"][0], (kind, chunk["refused"])
        assert (chunk["flags"], chunk["score"] > 0.5) == ([], True)


def test_a_chunk_whose_attempts_are_all_bad_fails_by_name_and_the_others_are_stored(
    in_order: NarrationCase,
) -> None:
    """The message gives each attempt's reason; the next run synthesizes that chunk alone."""
    post_instead(in_order, BAD_AUDIO["silence"].change, skip=1, times=3)
    with pytest.raises(ChunksFailed) as failure:
        in_order.run()
    message = str(failure.value)
    assert "1 of 4 chunks failed, 3 are stored: chunk 2:" in message
    assert message.count("silent") == 3
    assert "start the same command again" in message
    assert in_order.services.accepted_jobs == 6
    assert len(in_order.stored.keys("/clips/", ".flac")) == 3
    assert in_order.stored.job_records() == []
    in_order.services.reset()
    assert in_order.run()["synthesized"] == 1
    assert in_order.services.accepted_jobs == 1


def test_the_best_of_bad_attempts_is_kept_and_marked(in_order: NarrationCase) -> None:
    """Of three clipped attempts the least bad one is kept, marked as doubtful in manifest and table."""
    worse = with_waveform(lambda wave: np.tile(np.clip(wave * 30, -1, 1), 6))
    for change in (worse, BAD_AUDIO["clipping"].change, worse):
        post_instead(in_order, change, skip=1)
    report = in_order.run()
    assert report["flagged"] == [2]
    chunk = in_order.published().manifest["chunks"][1]
    assert chunk["attempt"] == 2
    assert len(chunk["refused"]) == 2
    kinds = {flag.partition(":")[0] for flag in chunk["flags"]}
    assert "clipping" in kinds
    assert "too-long" not in kinds
    rows = shown_chunks(in_order)
    assert "clipping" in rows[1]["doubts"]
    assert rows[1]["attempts"] == 3
    assert [row["doubts"] for row in rows if row["chunk"] != 2] == ["", "", ""]
    in_order.services.reset()
    assert in_order.run()["synthesized"] == 0  # a doubtful clip is stored like any other


def test_an_attempt_lost_after_a_doubtful_one_is_not_the_last(in_order: NarrationCase) -> None:
    """The first attempt clips and the job of the second is lost: a third one is made, and is good."""
    post_instead(in_order, BAD_AUDIO["clipping"].change)
    second_job_ends(status="TIMED_OUT")(in_order)
    report = in_order.run()
    assert report["flagged"] == []
    manifest = in_order.published().manifest
    chunk = manifest["chunks"][0]
    assert chunk["attempt"] == 3
    assert "clipping" in chunk["refused"][0]
    assert "timed out at RunPod" in chunk["refused"][1]
    assert in_order.services.accepted_jobs == manifest["cost"]["jobs"] == 6


def test_an_attempt_refused_before_a_lost_job_is_reported_and_every_job_is_counted(
    in_order: NarrationCase,
) -> None:
    """The first attempt is silent, the job of the second is lost and submitted again."""
    post_instead(in_order, BAD_AUDIO["silence"].change)
    second_job_ends(status="FAILED", error="job timed out after 1 retries", retries=1)(in_order)
    in_order.run()
    manifest = in_order.published().manifest
    chunk = manifest["chunks"][0]
    assert (chunk["attempt"], len(chunk["refused"])) == (2, 1)
    assert "silent" in chunk["refused"][0]
    assert in_order.services.accepted_jobs == manifest["cost"]["jobs"] == 6
