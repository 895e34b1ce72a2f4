"""Clips, sidecars and notes that were damaged in the store: each is found, and none stops a run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.audio import RATE, silence, tone
from support.plans import rendered
from support.stores import digest_of, sidecar_of

from narration import audio
from narration.errors import Damaged, MasteringError
from narration.manifest import ChunkEntry
from narration.planning import NarrationSource, Plan, SynthesizedNarration, make_plan
from narration.publishing.manifest_builder import build_manifest
from narration.rendering.render import render
from narration.script import parse_script
from narration.settings import read_settings
from narration.store import ClipSidecar, ObjectStore, Store, open_objects, open_store
from narration.store.layout import failures_key, hold_key, sidecar_key
from narration.synthesis.budget import budget_for
from narration.synthesis.continuity import cut_context
from narration.synthesis.run_state import RunState
from tasks.run_artifacts import chunk_row

CHUNKS = 40  # more than are read at once, and more than the times that a run may plan again


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def plan_with_clips(store: Store) -> Plan:
    """A plan whose clips are all stored."""
    text = "\n\n".join(
        f"This is paragraph {number}, which is long enough to be a chunk of its own, without a neighbour."
        for number in range(CHUNKS)
    )
    script = parse_script(text.encode(), name="long.md")

    def plan() -> Plan:
        source = NarrationSource(script, key="", settings=read_settings(engine="draft"))
        return make_plan(store, source, narration_id="long", voice=None)

    for number, planned in enumerate(plan().chunks):
        waveform = tone(0.5, hertz=300 + number)
        flac = audio.encode_flac(waveform, RATE)
        sidecar = sidecar_of(planned.digest, flac, samples=waveform.size, text=planned.text)
        store.clips.put(planned.digest, flac, sidecar)
    return plan()


def test_every_damaged_clip_is_found_by_one_rendering(store: Store, tmp_path: Path) -> None:
    """Of clips of which every second has a flipped bit, those and no others are missing in the next plan."""
    plan = plan_with_clips(store)
    clips = {planned.digest: planned.clip for planned in plan.chunks if planned.clip is not None}
    assert len(clips) == CHUNKS
    flipped = set(list(clips)[::2])
    for digest in flipped:
        path = tmp_path / "store" / clips[digest].key
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Damaged, match="not the audio that was stored"):
        render(store.clips, SynthesizedNarration(plan, clips), tmp_path)
    assert set(store.clips.find_many(clips)) == set(clips) - flipped
    assert list(tmp_path.glob("*.wav")) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_disk_too_full_for_copies_of_the_clips_is_named(store: Store, tmp_path: Path) -> None:
    """A full disk is a `MasteringError` with a remedy, and no clip counts as damaged."""
    plan = plan_with_clips(store)
    clips = {planned.digest: planned.clip for planned in plan.chunks if planned.clip is not None}
    folder = tmp_path / "full"
    folder.mkdir()
    for digest in clips:
        (folder / f"{digest}.flac").symlink_to("/dev/full")
    with pytest.raises(MasteringError, match="No space left") as caught:
        render(store.clips, SynthesizedNarration(plan, clips), folder)
    assert "free some space" in caught.value.remedy
    assert len(store.clips.find_many(clips)) == CHUNKS


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
QUALITY = st.fixed_dictionaries({}, optional=dict.fromkeys(("faults", "notes", "score"), ANYTHING))
REFUSED = st.fixed_dictionaries({}, optional=dict.fromkeys(("attempt", "seed", "reason"), ANYTHING))
CHANGES = st.sampled_from(sorted(field.name for field in dataclasses.fields(ClipSidecar))).flatmap(
    lambda name: st.tuples(
        st.just(name),
        {"quality": QUALITY | ANYTHING, "refused": st.lists(REFUSED, max_size=2) | ANYTHING}.get(
            name, ANYTHING
        ),
    )
)


TEXT = "This is a paragraph which is long enough to be a chunk of its own, without a neighbour."


@dataclass(frozen=True, repr=False)  # hypothesis would print the clip's bytes
class StoredChunk:
    """The plan of a single chunk, its stored clip's bytes and the fields of the clip's sidecar."""

    objects: ObjectStore
    store: Store
    plan: Plan
    flac: bytes
    sidecar: dict[str, Any]


@pytest.fixture(scope="module")
def stored_chunk(tmp_path_factory: pytest.TempPathFactory) -> StoredChunk:
    """A chunk whose clip is stored."""
    objects = open_objects(str(tmp_path_factory.mktemp("store")))
    store = Store(objects)
    script = parse_script(TEXT.encode(), name="x.md")
    source = NarrationSource(script, key="", settings=read_settings(engine="draft"))
    plan = make_plan(store, source, narration_id="x", voice=None)
    waveform = np.concatenate([tone(4.5), silence(0.5), tone(4.5)])  # longer than any context may be
    flac = audio.encode_flac(waveform, RATE)
    sidecar = sidecar_of(plan.chunks[0].digest, flac, samples=waveform.size, text=TEXT)
    store.clips.put(sidecar.digest, flac, sidecar)
    return StoredChunk(objects, store, plan, flac, json.loads(sidecar.to_json()))


@settings(deadline=None, max_examples=300)
@given(change=CHANGES)
@example(change=("text", ""))
@example(change=("engine", {"": float("inf")}))
def test_a_sidecar_with_one_field_altered_is_a_miss_or_usable(
    change: tuple[str, Any], stored_chunk: StoredChunk
) -> None:
    """A clip whose sidecar is accepted can be shown in the table, published and continued from."""
    store, planned = stored_chunk.store, stored_chunk.plan.chunks[0]
    altered = json.dumps(stored_chunk.sidecar | dict([change])).encode()
    stored_chunk.objects.put(sidecar_key(planned.digest), altered, content_type="application/json")
    clip = store.clips.find(planned.digest)
    if clip is None:
        return
    state = RunState(budget_for(read_settings(engine="draft"), "draft"))
    json.dumps(chunk_row(replace(planned, clip=clip), state), allow_nan=False)
    narration = SynthesizedNarration(stored_chunk.plan, {planned.digest: clip})
    (entry,) = build_manifest(rendered(narration), [], state).chunks
    assert ChunkEntry.model_validate_json(entry.model_dump_json()) == entry
    if change[0] == "text":
        cut_context(stored_chunk.flac, clip.sidecar.text)


@settings(deadline=None)
@given(data=st.binary(max_size=100) | ANYTHING.map(lambda value: json.dumps(value).encode()))
@example(data=b"[" * 100_000)
def test_an_unreadable_hold_or_count_stops_neither_pruning_nor_a_sweep(
    data: bytes, stored_chunk: StoredChunk
) -> None:
    """An unreadable hold holds no clip and the others still do; an unreadable count starts again."""
    store = stored_chunk.store
    store.holds.hold("intact", [digest_of("held")])
    for key in (hold_key("damaged"), failures_key(digest_of("script"))):
        stored_chunk.objects.put(key, data, content_type="application/json")
    assert digest_of("held") in store.holds.held_digests()
    assert store.script_failures.add(digest_of("script")) >= 1
    assert store.script_failures.count(digest_of("script")) >= 1
