"""The manifest: reading and writing it, refusing other bytes, and carrying takes over to the next run."""

from __future__ import annotations

import json
from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.plans import plan_of, run_of, stored_clip

import narration.manifest
from narration.errors import StoreRefused
from narration.manifest import (
    SCHEMA_VERSION,
    ChunkEntry,
    CostEntry,
    LoudnessEntry,
    Manifest,
    TakeEntry,
    carry_over,
    dump_manifest,
    load_manifest,
    manifest_schema,
)
from narration.planning import SynthesizedNarration
from narration.planning.script_source import settings_as_narrated
from narration.publishing import renew_review
from narration.rendering.render import narration_fingerprint
from narration.settings import CLIP_SETTINGS, RENDER_SETTINGS, Settings, read_settings
from narration.store import open_store
from tasks.publish import find_published

SHA = "0" * 64


def chunk(index: int, text: str, *takes: int, override: str | None = None) -> ChunkEntry:
    entries = tuple(TakeEntry(take=take, digest=SHA, text=override) for take in (takes or (1,)))
    return ChunkEntry(
        index=index,
        source_text=text,
        text=override or text,
        kind="text",
        boundary="paragraph",
        digest=SHA,
        take=entries[-1].take,
        takes=entries,
        start=0.0,
        end=1.0,
        gain_db=0.0,
        seed=1,
        attempt=1,
        cached=False,
        model="draft/1",
    )


def manifest(*chunks: ChunkEntry) -> Manifest:
    return Manifest(
        id="one",
        title="Title",
        created="2026-01-01T00:00:00+00:00",
        engine="draft",
        model="draft/1",
        voice=None,
        script_key="scripts/x.md",
        script_sha256=SHA,
        settings={},
        fingerprint=SHA,
        sample_rate=48_000,
        samples=48_000,
        duration=1.0,
        loudness=LoudnessEntry(
            preset="video",
            target_lufs=-14,
            integrated_lufs=-14,
            true_peak_dbtp=-1,
            gain_db=0,
            limited=False,
            on_target=True,
        ),
        files=(),
        chapters=(),
        chunks=chunks,
        cues=(),
        cost=CostEntry(jobs=0, execution_seconds=0, price_per_second=0, price=0, speech_seconds=0),
    )


def remembered_settings(settings: Settings) -> dict[str, Any]:
    """The part of `settings` that a manifest holds."""
    return {name: getattr(settings, name) for name in (*CLIP_SETTINGS, *RENDER_SETTINGS)}


def test_a_manifest_that_is_written_is_read_back_unchanged() -> None:
    """A run reads exactly the manifest that an earlier run wrote."""
    written = manifest(chunk(1, "Hello — “quoted” ✓", 1, 2))
    assert load_manifest(dump_manifest(written), name="m") == written


def test_the_schema_file_is_the_schema_of_the_model() -> None:
    """The JSON Schema beside the code, which other programs read, is that of the manifest."""
    published = json.loads(Path(narration.manifest.__file__).with_name("manifest.schema.json").read_text())
    assert published == manifest_schema()


def test_a_manifest_is_valid_by_its_schema() -> None:
    """A written manifest is valid by the JSON Schema."""
    jsonschema.validate(json.loads(dump_manifest(manifest(chunk(1, "Hello.")))), manifest_schema())


def test_a_manifest_with_a_newer_schema_is_refused() -> None:
    """An old program does not replace a manifest that a newer one wrote."""
    newer = json.loads(dump_manifest(manifest())) | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(StoreRefused, match="schema version"):
        load_manifest(json.dumps(newer).encode(), name="m")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = json.loads(dump_manifest(manifest(chunk(1, "Hello."))))


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_bytes_that_are_no_manifest_are_refused_with_their_name(data: bytes) -> None:
    """Any bytes that are not a manifest are a StoreRefused that names it, and no other error."""
    with pytest.raises(StoreRefused, match="m is not a manifest"):
        load_manifest(data, name="m")


@given(st.sampled_from(sorted(FIELDS)), json_values)
@example("schema_version", float("inf"))
@example("duration", float("nan"))
@example("settings", {"temperature": float("inf")})
@example("id", "\ud800")
def test_a_manifest_with_one_field_altered_is_read_or_refused(field: str, value: Any) -> None:
    """Any value of one field gives a manifest that can be published again, or a StoreRefused."""
    altered = json.dumps(FIELDS | {field: value}).replace("Infinity", "1e999").encode()
    try:
        read = load_manifest(altered, name="m")
    except StoreRefused as refusal:
        message = str(refusal)
    else:
        assert load_manifest(dump_manifest(read), name="m") == read
        return
    assert message.startswith("m ")


def test_a_manifest_changes_no_key_address_or_program() -> None:
    """A retake takes only the settings of clips and master from a manifest, which others may write."""
    addresses = dict.fromkeys(Settings.model_fields, "https://attacker.example")
    fixed = {"temperature": 0.7, "seed": None, "loudness": "podcast", "chunk_characters": 300}
    mine = read_settings(engine="draft", runpod_api_key="rpa_mine", endpoint_id="mine", seed=3, max_cost=2)
    hostile = manifest().model_copy(update={"settings": {**addresses, **remembered_settings(mine), **fixed}})
    assert settings_as_narrated(hostile, mine) == mine.model_copy(update=fixed)


@given(st.sampled_from([*CLIP_SETTINGS, *RENDER_SETTINGS]), json_values)
def test_a_setting_in_a_manifest_is_valid_or_the_manifest_is_refused(name: str, value: Any) -> None:
    """Settings from a manifest are validated like those from the environment."""
    altered = manifest().model_copy(update={"settings": {name: value}})
    try:
        restored = settings_as_narrated(altered, read_settings(engine="draft"))
    except StoreRefused as refusal:
        assert name in str(refusal)  # noqa: PT017  # both ways out are right; each has its claim
    else:
        read_settings(**restored.model_dump())


@pytest.mark.parametrize("other", ["another", "x'; touch pwned; '", "x\x1b[201~\ntouch pwned\n"])
def test_a_manifest_that_names_another_narration_renews_no_page(other: str, tmp_path: Path) -> None:
    """The id of a manifest is not trusted: it would go into keys and into commands that people paste."""
    store = open_store(str(tmp_path))
    renamed = dump_manifest(manifest().model_copy(update={"id": other}))
    store.manifests.replace("one", renamed, if_match=None)
    with pytest.raises(StoreRefused, match="of another narration"):
        renew_review(store, "one")
    assert [info.key for info in store.all_objects.list("narrations/")] == ["narrations/one/manifest.json"]


async def test_a_manifest_that_names_another_narration_is_published_again(tmp_path: Path) -> None:
    """A manifest with another id, which reports and commands would repeat, is replaced."""
    planned, run = plan_of(tmp_path, [1]), run_of(tmp_path)
    clips = {entry.digest: stored_clip(entry.digest) for entry in planned.chunks}
    fingerprint = narration_fingerprint(SynthesizedNarration(planned, clips))
    mine = manifest().model_copy(update={"id": planned.narration_id, "fingerprint": fingerprint})
    for published, answer in ((mine, mine), (mine.model_copy(update={"id": "`[x](//h)"}), None)):
        narration = SynthesizedNarration(replace(planned, manifest=published), clips)
        assert await unwrap(find_published)(run, narration) == answer


def test_takes_follow_their_source_text_nth_to_nth() -> None:
    """The second of two equal paragraphs keeps its take if a paragraph is inserted between them."""
    before = manifest(chunk(1, "Same."), chunk(2, "Same.", 1, 2), chunk(3, "Other.", 1, 2, 3))
    histories, dropped = carry_over(before, ["New.", "Same.", "Another.", "Same."])
    assert [history and history.take for history in histories] == [None, 1, None, 2]
    assert [entry.source_text for entry in dropped] == ["Other."]


def test_only_chunks_with_a_choice_are_reported_as_dropped() -> None:
    """A chunk that is gone is reported only if it had another take or text."""
    assert carry_over(manifest(chunk(1, "Gone.")), ["New."])[1] == []
    assert len(carry_over(manifest(chunk(1, "Gone.", override="Said.")), ["New."])[1]) == 1
