"""The state of a run: its counts of chunks, and the error for chunks without a clip."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support.plans import FLAC, new_state, plan_of, rendered, stored_clip, with_clips
from support.stores import sidecar_of

from narration.endpoint import Endpoint
from narration.errors import ChunksFailed, Damaged, EndpointUnavailable, JobFailed
from narration.planning import Plan
from narration.publishing.manifest_builder import build_manifest
from narration.store import open_store
from narration.synthesis.run_state import RunState
from narration.synthesis.synthesizer import SynthesizedClip, Synthesizer
from narration.voices.transport import VoiceTransport


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four chunks, the first and the last with the same text; no clip is stored."""
    return plan_of(tmp_path, (1, 2, 3, 1))


@pytest.fixture
def state() -> RunState:
    return new_state()


def test_a_clip_that_two_chunks_share_is_counted_twice(plan: Plan, state: RunState) -> None:
    """It is made once; but the counts are of chunks, so that they add up to the narration."""
    digest = plan.chunks[0].digest
    state.synthesized[digest] = SynthesizedClip(stored_clip(digest), 1, 0.5)
    assert state.counts(with_clips(plan, 2)) == (2, 2, 0)


def test_a_clip_that_another_run_stored_meanwhile_is_cached(plan: Plan, state: RunState) -> None:
    """This run did not make it, though it was missing when the plan was made; the manifest says so too."""
    digest = plan.chunks[1].digest
    state.synthesized[digest] = SynthesizedClip(stored_clip(digest), 0, 0.0, by_another_run=True)
    state.failures[plan.chunks[2].digest] = RuntimeError("no")
    assert state.counts(with_clips(plan, 1, 4)) == (0, 3, 1)
    assert digest in state.clips(plan)
    narration = state.require_all(with_clips(plan, 1, 3, 4), remedy="again")
    assert build_manifest(rendered(narration), [], state).chunks[1].cached


def test_every_chunk_without_a_clip_is_named_with_its_reason(plan: Plan, state: RunState) -> None:
    """A failed chunk has its reason, one that was never tried says so, and the error has the run's report."""
    state.failures[plan.chunks[1].digest] = JobFailed("it broke")
    with pytest.raises(
        ChunksFailed, match=r"2 of 4 chunks failed, 2 are stored: chunk 2: it broke"
    ) as raised:
        state.require_all(with_clips(plan, 1, 4), remedy="again")
    assert set(raised.value.failures) == {2, 3}
    assert "never finished" in raised.value.failures[3]
    assert raised.value.report["failed"] == 1
    assert not state.complete


def test_a_single_cause_before_the_first_clip_is_raised_as_itself(plan: Plan, state: RunState) -> None:
    """Four chunks that failed for one cause raise that cause, with its own remedy."""
    cause = EndpointUnavailable("nobody answers", remedy="check the network")
    state.failures = dict.fromkeys((entry.digest for entry in plan.chunks), cause)
    with pytest.raises(EndpointUnavailable, match="nobody answers"):
        state.require_all(plan, remedy="again")


def test_a_first_job_that_failed_is_raised_with_its_chunk_and_a_remedy(plan: Plan, state: RunState) -> None:
    """The failure of a job has no remedy; that of the run has one."""
    state.failures = dict.fromkeys((entry.digest for entry in plan.chunks), JobFailed("job 1 failed"))
    with pytest.raises(ChunksFailed, match="chunk 1: job 1 failed") as caught:
        state.require_all(plan, remedy="again")
    assert caught.value.remedy == "again"


def test_a_stored_clip_that_proves_damaged_needs_another_plan(plan: Plan, state: RunState) -> None:
    """Its failure and those of the chunks that continue from it are dropped; the next plan makes it again."""
    state.failures[plan.chunks[1].digest] = Damaged("its bytes are altered")
    state.failures[plan.chunks[2].digest] = RuntimeError("no context")
    with pytest.raises(Damaged):
        state.require_all(with_clips(plan, 1, 4), remedy="again")
    assert state.failures == {}


def test_a_run_whose_chunks_all_have_clips_is_complete(plan: Plan, state: RunState) -> None:
    """A later failure costs no clip, and the exit status says so."""
    state.require_all(with_clips(plan, 1, 2, 3, 4), remedy="again")
    assert state.complete


async def test_a_clip_stored_since_the_plan_costs_no_job(plan: Plan, tmp_path: Path) -> None:
    """Another run was quicker: its clip is taken, and the endpoint gets no request."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"asked {request.url}")

    store, planned = open_store(str(tmp_path / "store")), plan.chunks[0]
    store.clips.put(planned.digest, FLAC, sidecar_of(planned.digest, FLAC))
    async with Endpoint("ep", "key", transport=httpx.MockTransport(refuse)) as endpoint:
        synthesizer = Synthesizer(
            store,
            endpoint,
            settings=plan.settings,
            voice=VoiceTransport(),
            budget=new_state().budget,
            flow_run_id="this",
        )
        clip = await synthesizer.make(planned)
        synthesizer.close()
    assert (clip.by_another_run, clip.jobs, clip.clip.digest) == (True, 0, planned.digest)
