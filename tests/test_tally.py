"""What a run says of itself: made, cached and failed chunks, and what a missing clip is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from support.plans import FLAC, empty_tally, plan_of, stored_clip
from support.stores import sidecar_of

from narration.endpoint import Endpoint
from narration.errors import ChunksFailed, Damaged, EndpointUnavailable, JobFailed
from narration.planning import Plan
from narration.publishing.manifest_builder import _chunk_entry
from narration.rendering.timeline import Placement
from narration.settings import read_settings
from narration.store import open_store
from narration.synthesis.budget import budget_for
from narration.synthesis.run_state import RunState
from narration.synthesis.synthesizer import SynthesizedClip, Synthesizer
from narration.voices.transport import VoiceTransport


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four chunks of which the first and the last say the same; nothing is stored."""
    return plan_of(tmp_path, (1, 2, 3, 1))


@pytest.fixture
def tally() -> RunState:
    return empty_tally()


def with_clips(plan: Plan, *indices: int) -> Plan:
    """`plan` with those chunks stored before the run."""
    chunks = [
        replace(entry, clip=stored_clip(entry.digest)) if entry.chunk.index in indices else entry
        for entry in plan.chunks
    ]
    return replace(plan, chunks=tuple(chunks))


def test_a_clip_that_two_chunks_share_is_made_once_and_counted_twice(plan: Plan, tally: RunState) -> None:
    """The counts are of chunks, so that they add up to the narration."""
    tally.made[plan.chunks[0].digest] = SynthesizedClip(stored_clip(plan.chunks[0].digest), 1, 0.5)
    assert tally.counts(with_clips(plan, 2)) == (2, 2, 0)


def test_a_clip_that_another_run_stored_meanwhile_is_cached(plan: Plan, tally: RunState) -> None:
    """It was found, not made, though the plan had it missing."""
    digest = plan.chunks[1].digest
    tally.made[digest] = SynthesizedClip(stored_clip(digest), 0, 0.0, found=True)
    tally.failed[plan.chunks[2].digest] = RuntimeError("no")
    assert tally.counts(with_clips(plan, 1, 4)) == (0, 3, 1)
    assert digest in tally.clips(plan)
    entry = _chunk_entry(plan.chunks[1], tally.clips(plan)[digest], Placement(2, 0, 10, 0, 5, 5, 0.0), tally)
    assert entry.cached


def test_every_chunk_without_a_clip_is_named_with_its_reason(plan: Plan, tally: RunState) -> None:
    """A failed chunk says why, one that was never tried says so, and the run's report comes along."""
    tally.failed[plan.chunks[1].digest] = JobFailed("it broke")
    with pytest.raises(
        ChunksFailed, match=r"2 of 4 chunks failed, 2 are stored: chunk 2: it broke"
    ) as raised:
        tally.require_all(with_clips(plan, 1, 4), remedy="again")
    assert set(raised.value.failures) == {2, 3}
    assert "never finished" in raised.value.failures[3]
    assert raised.value.report["failed"] == 1
    assert not tally.whole


def test_what_stopped_a_run_before_its_first_clip_is_said_plainly(plan: Plan, tally: RunState) -> None:
    """Four chunks that failed for one cause are that cause, with its own remedy."""
    cause = EndpointUnavailable("nobody answers", remedy="check the network")
    tally.failed = dict.fromkeys((entry.digest for entry in plan.chunks), cause)
    with pytest.raises(EndpointUnavailable, match="nobody answers"):
        tally.require_all(plan, remedy="again")


def test_a_first_job_that_failed_is_said_with_its_chunk_and_the_way_on(plan: Plan, tally: RunState) -> None:
    """What became of one job tells nobody what to do; the run does."""
    tally.failed = dict.fromkeys((entry.digest for entry in plan.chunks), JobFailed("job 1 failed"))
    with pytest.raises(ChunksFailed, match="chunk 1: job 1 failed") as caught:
        tally.require_all(plan, remedy="again")
    assert caught.value.remedy == "again"


def test_a_stored_clip_that_proves_damaged_asks_for_another_plan(plan: Plan, tally: RunState) -> None:
    """Others continue from it: their failures are forgotten with it, and the next plan makes it again."""
    tally.failed[plan.chunks[1].digest] = Damaged("its bytes are others")
    tally.failed[plan.chunks[2].digest] = RuntimeError("no context")
    with pytest.raises(Damaged):
        tally.require_all(with_clips(plan, 1, 4), remedy="again")
    assert tally.failed == {}


def test_a_whole_narration_passes_and_is_remembered(plan: Plan, tally: RunState) -> None:
    """What goes wrong after that costs no clip, and the exit status says so."""
    tally.require_all(with_clips(plan, 1, 2, 3, 4), remedy="again")
    assert tally.whole


async def test_a_clip_that_appeared_since_the_plan_costs_no_job(plan: Plan, tmp_path: Path) -> None:
    """Another run was quicker: the clip is taken as found, and the endpoint hears nothing."""

    def nobody(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"asked {request.url}")

    store, wanted = open_store(str(tmp_path / "store")), plan.chunks[0]
    store.clips.put(wanted.digest, FLAC, sidecar_of(wanted.digest, FLAC))
    settings = read_settings(engine="draft")
    async with Endpoint("ep", "key", transport=httpx.MockTransport(nobody)) as endpoint:
        budget = budget_for(settings, "draft")
        synthesizer = Synthesizer(
            store, endpoint, settings=settings, voice=VoiceTransport(), budget=budget, run="this"
        )
        made = await synthesizer.make(wanted)
        synthesizer.close()
    assert (made.found, made.jobs, made.clip.digest) == (True, 0, wanted.digest)
