"""Clips in a folder and in S3: found, read, stored, and deleted only when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import DIGEST, FLAC, digest_of, put_clip, sidecar_of

from narration.errors import Damaged
from narration.store import ObjectStore, Store, open_objects
from narration.store.layout import audio_key, job_key, sidecar_key


def test_a_stored_clip_is_found_and_read_back(store: Store) -> None:
    """A clip is found by its digest, with its whole sidecar and its bytes."""
    assert store.clips.find(DIGEST) is None
    job = {"id": "j-1", "endpoint": "e", "execution_ms": 5, "delay_ms": None}
    sidecar = sidecar_of(
        DIGEST, FLAC, job=job, quality={"flags": ["clipped"], "score": 0.5}, engine={"slots": 2}
    )
    assert store.clips.put(DIGEST, FLAC, sidecar).sidecar == sidecar
    clip = store.clips.find(DIGEST)
    assert clip is not None
    assert clip.sidecar == sidecar
    assert clip.seconds == 1.0
    assert store.clips.read(clip) == FLAC


def test_many_clips_are_looked_up_at_once(store: Store) -> None:
    """Of many digests, some of them given twice, exactly the stored ones are found."""
    stored = [digest_of(f"stored {n}") for n in range(5)]
    for digest in stored:
        put_clip(store, digest)
    missing = [digest_of(f"missing {n}") for n in range(5)]
    assert set(store.clips.find_many([*stored, *missing, *stored])) == set(stored)
    assert store.clips.find_many([]) == {}


def _alter(objects: ObjectStore, key: str, change: Callable[[bytes], bytes]) -> None:
    stored = objects.get(key)
    assert stored is not None
    objects.put(key, change(stored.data), content_type="application/octet-stream")


@pytest.mark.parametrize(
    "damage",
    [
        lambda objects: objects.delete(audio_key(DIGEST)),
        lambda objects: objects.delete(sidecar_key(DIGEST)),
        lambda objects: _alter(objects, audio_key(DIGEST), lambda data: data[:-1]),
        lambda objects: _alter(objects, audio_key(DIGEST), lambda _: b""),
        lambda objects: _alter(objects, sidecar_key(DIGEST), lambda _: b""),
        lambda objects: _alter(objects, sidecar_key(DIGEST), lambda data: data[:-20]),
        lambda objects: _alter(objects, sidecar_key(DIGEST), lambda _: b"\xff\xfe\x00garbage"),
        lambda objects: _alter(objects, sidecar_key(DIGEST), lambda _: b"[]"),
        lambda objects: _alter(
            objects, sidecar_key(DIGEST), lambda data: data.replace(b'"samples":24000', b'"samples":-1')
        ),
        lambda objects: _alter(
            objects, sidecar_key(DIGEST), lambda _: sidecar_of(digest_of("other"), FLAC).to_json()
        ),
    ],
    ids=[
        "no-audio",
        "no-sidecar",
        "truncated",
        "emptied",
        "empty-sidecar",
        "half-sidecar",
        "garbage",
        "not-an-object",
        "impossible-value",
        "sidecar-of-another-clip",
    ],
)
def test_an_incomplete_clip_is_a_miss(
    store: Store, objects: ObjectStore, damage: Callable[[ObjectStore], None]
) -> None:
    """A clip without its audio or its own sidecar is not found, and storing it again repairs it."""
    put_clip(store)
    damage(objects)
    assert store.clips.find(DIGEST) is None
    put_clip(store)
    clip = store.clips.find(DIGEST)
    assert clip is not None
    assert store.clips.read(clip) == FLAC


def test_altered_audio_of_the_same_size_is_damaged_when_read(store: Store, objects: ObjectStore) -> None:
    """Sizes do not show a flipped bit; reading raises `Damaged`, and storing the clip again repairs it."""
    put_clip(store)
    _alter(objects, audio_key(DIGEST), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    clip = store.clips.find(DIGEST)
    assert clip is not None
    with pytest.raises(Damaged, match="not the audio that was stored") as error:
        store.clips.read(clip)
    assert error.value.retryable
    put_clip(store)
    assert store.clips.read(clip) == FLAC


def test_a_clip_deleted_since_it_was_found_is_damaged(store: Store, objects: ObjectStore) -> None:
    """Reading a clip whose audio was deleted after it was found raises `Damaged`."""
    put_clip(store)
    clip = store.clips.find(DIGEST)
    assert clip is not None
    objects.delete(audio_key(DIGEST))
    assert store.clips.find(DIGEST) is None
    with pytest.raises(Damaged, match="missing"):
        store.clips.read(clip)


def test_only_a_damaged_clip_is_deleted(store: Store, objects: ObjectStore) -> None:
    """A clip that another writer has repaired stays; a damaged one is deleted, audio and sidecar."""
    put_clip(store)
    store.clips.delete_if_damaged(DIGEST)
    assert store.clips.find(DIGEST) is not None
    _alter(objects, audio_key(DIGEST), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    store.clips.delete_if_damaged(DIGEST)
    store.clips.delete_if_damaged(DIGEST)
    assert store.clips.find(DIGEST) is None
    assert list(store.all_objects.list("clips/")) == []


def test_the_first_intact_clip_stays(store: Store) -> None:
    """Other audio under the same digest does not replace an intact clip, which may be published already."""
    put_clip(store)
    other = FLAC[:-1]
    kept = store.clips.put(DIGEST, other, sidecar_of(DIGEST, other, attempt=2))
    assert kept.sidecar.attempt == 1
    assert store.clips.read(kept) == FLAC


def test_a_sidecar_of_other_audio_is_refused(store: Store) -> None:
    """A sidecar that does not match the audio raises `ValueError`, and nothing is written."""
    with pytest.raises(ValueError, match="another clip"):
        store.clips.put(DIGEST, FLAC, sidecar_of(DIGEST, FLAC + b"x"))
    assert store.clips.find(DIGEST) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_bytes_can_be_read_as_a_sidecar_or_a_job_record(data: bytes, tmp_path: Path) -> None:
    """Bytes that are no sidecar and no job record are read as a missing one."""
    objects = open_objects(str(tmp_path))
    store = Store(objects)
    objects.put(sidecar_key(DIGEST), data, content_type="application/json")
    objects.put(job_key(DIGEST), data, content_type="application/json")
    assert store.clips.find(DIGEST) is None
    assert store.jobs.find(DIGEST) is None
    assert list(store.jobs.list()) == []


def test_interleaved_writes_of_one_clip_end_in_a_matching_pair(
    store: Store, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Audio of one writer under the sidecar of another, the worst order of writes, is repaired."""
    others = FLAC[:-1]
    put, interleaved = objects.put, False

    def put_interleaved(key: str, data: bytes, **options: Any) -> str:
        nonlocal interleaved
        etag = put(key, data, **options)
        if key == audio_key(DIGEST) and not interleaved:
            interleaved = True  # the other writer's audio comes after ours, its sidecar before ours
            put(key, others, content_type="audio/flac")
            put(sidecar_key(DIGEST), sidecar_of(DIGEST, others).to_json(), content_type="application/json")
        return etag

    monkeypatch.setattr(objects, "put", put_interleaved)
    kept = store.clips.put(DIGEST, FLAC, sidecar_of(DIGEST, FLAC))
    assert interleaved
    assert store.clips.find(DIGEST) == kept
    assert store.clips.read(kept) == FLAC
