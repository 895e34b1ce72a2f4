"""What lasts: one suite for the folder and for two S3 servers, and the folder's own promises."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import SERVERS, Place, digest_of, s3_place, server, sidecar_of

from narration.errors import (
    Damaged,
    ManifestConflict,
    ScriptError,
    SettingsError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from narration.store import JobRecord, Store, atomic, open_store, validate_id
from narration.store.keys import check_key
from narration.store.layout import audio_key, job_key, manifest_key, sidecar_key

D = digest_of("a clip")
FLAC = b"fLaC" + bytes(range(256)) * 20


@pytest.fixture(params=("folder", *SERVERS))
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty store of each kind in turn."""
    if request.param == "folder":
        return Place(str(tmp_path / "store"), {})
    return s3_place(server(request.param), monkeypatch)


@pytest.fixture
def store(place: Place) -> Store:
    """An empty store of each kind in turn, opened."""
    return place.open()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a folder store will be."""
    return tmp_path / "store"


def put(store: Store, digest: str = D, flac: bytes = FLAC, **changes: Any) -> None:
    store.clips.put(digest, flac, sidecar_of(digest, flac, **changes))


# Clips


def test_a_stored_clip_is_found_and_read_back(store: Store) -> None:
    """What was put under a digest is there, with everything known of it."""
    assert store.clips.find(D) is None
    job = {"id": "j-1", "endpoint": "e", "execution_ms": 5, "delay_ms": None}
    sidecar = sidecar_of(D, FLAC, job=job, quality={"flags": ["clipped"], "score": 0.5}, engine={"slots": 2})
    assert store.clips.put(D, FLAC, sidecar).sidecar == sidecar
    clip = store.clips.find(D)
    assert clip is not None
    assert clip.sidecar == sidecar
    assert clip.seconds == 1.0
    assert store.clips.read(clip) == FLAC


def test_many_clips_are_asked_for_at_once(store: Store) -> None:
    """Of many digests, some of them twice, exactly the stored ones are found."""
    stored = [digest_of(f"stored {n}") for n in range(5)]
    for digest in stored:
        put(store, digest)
    missing = [digest_of(f"missing {n}") for n in range(5)]
    assert set(store.clips.find_many([*stored, *missing, *stored])) == set(stored)
    assert store.clips.find_many([]) == {}


def _spoil(store: Store, key: str, change: Callable[[bytes], bytes]) -> None:
    stored = store._objects.get(key)
    assert stored is not None
    store._objects.put(key, change(stored.data), content_type="application/octet-stream")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda store: store._objects.delete(audio_key(D)),
        lambda store: store._objects.delete(sidecar_key(D)),
        lambda store: _spoil(store, audio_key(D), lambda data: data[:-1]),
        lambda store: _spoil(store, audio_key(D), lambda _: b""),
        lambda store: _spoil(store, sidecar_key(D), lambda _: b""),
        lambda store: _spoil(store, sidecar_key(D), lambda data: data[:-20]),
        lambda store: _spoil(store, sidecar_key(D), lambda _: b"\xff\xfe\x00garbage"),
        lambda store: _spoil(store, sidecar_key(D), lambda _: b"[]"),
        lambda store: _spoil(
            store, sidecar_key(D), lambda data: data.replace(b'"samples":24000', b'"samples":-1')
        ),
        lambda store: _spoil(store, sidecar_key(D), lambda _: sidecar_of(digest_of("other"), FLAC).to_json()),
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
def test_a_clip_that_is_not_whole_is_a_miss(store: Store, spoil: Callable[[Store], None]) -> None:
    """Missing, torn, foreign: the clip is not there, and putting it makes it whole again."""
    put(store)
    spoil(store)
    assert store.clips.find(D) is None
    put(store)
    clip = store.clips.find(D)
    assert clip is not None
    assert store.clips.read(clip) == FLAC


def test_altered_bytes_of_the_same_size_are_damage_when_read(store: Store) -> None:
    """A flipped bit does not show in sizes; reading finds it, and a new put mends it unasked."""
    put(store)
    _spoil(store, audio_key(D), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    clip = store.clips.find(D)
    assert clip is not None
    with pytest.raises(Damaged, match="not the audio that was stored") as damage:
        store.clips.read(clip)
    assert damage.value.retryable
    put(store)
    assert store.clips.read(clip) == FLAC


def test_a_clip_deleted_since_it_was_found_is_damage(store: Store) -> None:
    """Between planning and reading, a clip may go."""
    put(store)
    clip = store.clips.find(D)
    assert clip is not None
    store._objects.delete(audio_key(D))
    assert store.clips.find(D) is None
    with pytest.raises(Damaged, match="missing"):
        store.clips.read(clip)


def test_only_a_damaged_clip_is_discarded(store: Store) -> None:
    """Whoever read a clip before another writer replaced it does not throw the whole one away."""
    put(store)
    store.clips.delete_if_damaged(D)
    assert store.clips.find(D) is not None
    _spoil(store, audio_key(D), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    store.clips.delete_if_damaged(D)
    store.clips.delete_if_damaged(D)
    assert store.clips.find(D) is None
    assert list(store._objects.list("clips/")) == []


def test_the_first_whole_clip_stays(store: Store) -> None:
    """Another attempt's audio under the same digest does not replace what may be published already."""
    put(store)
    other = FLAC[:-1]
    kept = store.clips.put(D, other, sidecar_of(D, other, attempt=2))
    assert kept.sidecar.attempt == 1
    assert store.clips.read(kept) == FLAC


def test_a_sidecar_that_describes_another_clip_is_refused(store: Store) -> None:
    """The pair is checked before anything is written."""
    with pytest.raises(ValueError, match="another clip"):
        store.clips.put(D, FLAC, sidecar_of(D, FLAC + b"x"))
    assert store.clips.find(D) is None


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
def test_no_sidecar_or_job_record_crashes_the_reader(data: bytes, tmp_path: Path) -> None:
    """Whatever bytes lie where a sidecar or a record should, the answer is that there is none."""
    store = open_store(str(tmp_path))
    store._objects.put(sidecar_key(D), data, content_type="application/json")
    store._objects.put(job_key(D), data, content_type="application/json")
    assert store.clips.find(D) is None
    assert store.jobs.find(D) is None
    assert list(store.jobs.list()) == []


# Jobs


def record(digest: str = D, **changes: Any) -> JobRecord:
    fields = {"digest": digest, "endpoint": "e", "job_id": "j-1", "submitted_at": "2026-11-22T10:00:00+00:00"}
    return JobRecord.model_validate({**fields, "attempt": 1, "seed": 5, "run": "r", **changes})


def test_the_last_job_of_a_clip_is_remembered(store: Store) -> None:
    """A record replaces the one before, is found by its digest, and can be dropped."""
    assert store.jobs.find(D) is None
    store.jobs.put(record())
    store.jobs.put(record(job_id="j-2"))
    assert store.jobs.find(D) == record(job_id="j-2")
    other = digest_of("other")
    store.jobs.put(record(other))
    assert {job.digest for job in store.jobs.list()} == {D, other}
    store.jobs.delete(D)
    store.jobs.delete(D)
    assert [job.digest for job in store.jobs.list()] == [other]


def test_a_record_that_cannot_be_read_is_none(store: Store) -> None:
    """A torn or foreign record costs one submission, not the run."""
    for data in (b"", b"{", b"[]", record(digest_of("other")).model_dump_json().encode()):
        store._objects.put(job_key(D), data, content_type="application/json")
        assert store.jobs.find(D) is None
        assert list(store.jobs.list()) == []


# Scripts


def test_a_script_is_kept_under_its_content(store: Store) -> None:
    """The key is made of the bytes, and gives them back."""
    key = store.scripts.put("# Ünïcode\n".encode(), ".md")
    assert key == f"scripts/{digest_of('# Ünïcode' + chr(10))}.md"
    assert store.scripts.put("# Ünïcode\n".encode(), ".md") == key
    assert store.scripts.read(key) == "# Ünïcode\n".encode()


def test_a_missing_or_huge_script_is_named(store: Store) -> None:
    """What is not there, and what is too large to be a script, is refused by its key."""
    with pytest.raises(ScriptError, match=r"no script inbox/none\.md \(put it there"):
        store.scripts.read("inbox/none.md")
    store._objects.put("inbox/long.md", b"x" * 101, content_type="text/plain")
    with pytest.raises(ScriptError, match="101 bytes are more than the 100"):
        store.scripts.read("inbox/long.md", max_bytes=100)


@pytest.mark.parametrize(
    "key",
    [
        "voices/default/voice.json",
        "../secret",
        "scripts/../../x",
        "/etc/passwd",
        "inbox",
        "",
        "scripts\\x",
        "inbox/.env",
    ],
)
def test_only_scripts_are_read_as_scripts(key: str, folder: Path) -> None:
    """A reference leads nowhere but to scripts."""
    store = open_store(str(folder))
    with pytest.raises(SettingsError):
        store.scripts.read(key)


def test_the_inbox_lists_what_waits(store: Store) -> None:
    """Names as people give them, in folders too; hidden files are not scripts."""
    for name in ("inbox/Kapitel 1.md", "inbox/series/two.txt"):
        store._objects.put(name, b"x" * 7, content_type="text/plain")
    found = store.scripts.list_inbox()
    assert {info.key for info in found} == {"inbox/Kapitel 1.md", "inbox/series/two.txt"}
    assert all(info.size == 7 for info in found)
    assert all(abs(info.modified.timestamp() - time.time()) < 60 for info in found)


def test_a_rejected_script_moves_with_its_reason(store: Store) -> None:
    """It leaves the inbox for `rejected/`, its reason beside it, and no namesake replaces it."""
    moved = []
    for words in (b"first", b"second"):
        store._objects.put("inbox/a/b.md", words, content_type="text/plain")
        moved.append(store.scripts.reject("inbox/a/b.md", "no words in it"))
        assert store.scripts.list_inbox() == []
    assert len(set(moved)) == 2
    for key, words in zip(moved, (b"first", b"second"), strict=True):
        assert key.startswith("rejected/a/b-")
        script, reason = store._objects.get(key), store._objects.get(key.replace(".md", ".reason.txt"))
        assert script is not None
        assert script.data == words
        assert reason is not None
        assert reason.data == b"no words in it\n"


def test_names_of_any_length_can_be_rejected(store: Store) -> None:
    """The longest name that can be in the inbox can be in `rejected/` too."""
    for name in ("ä" * 110 + ".md", "a." + "b" * 200, "x .md y"):
        store._objects.put(f"inbox/{name}", b"x", content_type="text/plain")
        store.scripts.reject(f"inbox/{name}", "why")
    assert store.scripts.list_inbox() == []


def test_only_the_inbox_can_be_rejected(store: Store) -> None:
    """A sweep cannot be led to move anything else."""
    key = store.scripts.put(b"words", ".md")
    for wrong in (key, "inbox/../scripts/x", "inbox/none.md"):
        with pytest.raises((SettingsError, ScriptError)):
            store.scripts.reject(wrong, "why")
    assert store.scripts.read(key) == b"words"


# Narrations


def test_a_manifest_is_replaced_only_if_unchanged(store: Store) -> None:
    """The first is written where there is none, each next over the one that was read."""
    assert store.manifests.read("intro") is None
    first = store.manifests.replace("intro", b"1", if_match=None)
    assert store.manifests.read("intro") == (b"1", first)
    with pytest.raises(ManifestConflict) as conflict:
        store.manifests.replace("intro", b"other", if_match=None)
    assert conflict.value.retryable
    second = store.manifests.replace("intro", b"2", if_match=first)
    with pytest.raises(ManifestConflict):
        store.manifests.replace("intro", b"other", if_match=first)
    assert store.manifests.read("intro") == (b"2", second)


def test_a_manifest_that_was_deleted_is_not_replaced(store: Store) -> None:
    """An etag of what is gone does not bring it back."""
    etag = store.manifests.replace("intro", b"1", if_match=None)
    store._objects.delete(manifest_key("intro"))
    with pytest.raises(ManifestConflict):
        store.manifests.replace("intro", b"2", if_match=etag)
    assert store.manifests.read("intro") is None


def test_narrations_are_listed_by_their_manifests(store: Store, tmp_path: Path) -> None:
    """A narration that was not published yet is none."""
    assert store.manifests.ids() == []
    file = tmp_path / "a.srt"
    file.write_bytes(b"1")
    store.files.publish("unpublished", file, "captions", ".srt", "application/x-subrip")
    for name in ("b", "a"):
        store.manifests.replace(name, b"{}", if_match=None)
    assert store.manifests.ids() == ["a", "b"]


def test_a_published_file_is_named_by_its_content(store: Store, tmp_path: Path) -> None:
    """Other content is another file; the same content is there already and is not written again."""
    source = tmp_path / "master.mp3"
    source.write_bytes(b"one")
    one = store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    assert one.key == f"narrations/intro/narration-{hashlib.sha256(b'one').hexdigest()[:16]}.mp3"
    assert (one.sha256, one.size) == (hashlib.sha256(b"one").hexdigest(), 3)
    before = store._objects.head(one.key)
    time.sleep(1.1)  # S3 tells whole seconds
    assert store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg") == one
    assert store._objects.head(one.key) == before
    source.write_bytes(b"two")
    two = store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    assert two.key != one.key
    copy = tmp_path / "copy"
    store._objects.get_file(one.key, copy)
    assert copy.read_bytes() == b"one"


def test_a_published_file_that_was_altered_is_made_whole(store: Store, tmp_path: Path) -> None:
    """Its name says what it must hold, so publishing again mends it."""
    source = tmp_path / "master.mp3"
    source.write_bytes(b"one")
    published = store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    store._objects.put(published.key, b"bad", content_type="audio/mpeg")
    store.files.publish("intro", source, "narration", ".mp3", "audio/mpeg")
    stored = store._objects.get(published.key)
    assert stored is not None
    assert stored.data == b"one"


def test_a_missing_file_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    """A download that fails is typed and leaves no half file."""
    with pytest.raises(Damaged, match="missing"):
        store._objects.get_file("narrations/intro/narration-0.mp3", tmp_path / "copy")
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


# The store as a whole


def test_a_store_that_works_is_writable(store: Store) -> None:
    """The probe passes and leaves nothing."""
    store.check_writable()
    assert store.supports_concurrent_writers()
    for folder in ("clips/", "inbox/", "narrations/"):
        assert list(store._objects.list(folder)) == []


def test_a_link_leads_to_the_bytes(store: Store) -> None:
    """A person without credentials can follow it."""
    import httpx

    key = store.scripts.put(b"words", ".md")
    link = store.link(key, seconds=60)
    assert store.locate(key).endswith(key)
    if link.startswith("file:"):
        assert Path(link.removeprefix("file://")).read_bytes() == b"words"
    else:
        with httpx.Client(trust_env=False) as client:
            assert client.get(link).content == b"words"


@pytest.mark.parametrize(
    "url",
    ["", " ", "http://host/x", "gs://bucket", "S3://bucket", "s3://", "s3://A_b", "s3:/bucket", "s3:bucket",
     "s3://bucket/../x", "s3://bucket/a//b", "s3://bucket/.hidden", "file:///tmp/x", "ftp:x"],
)  # fmt: skip
def test_only_folders_and_buckets_are_stores(url: str) -> None:
    """Anything else is refused before a folder of that name appears."""
    with pytest.raises(SettingsError):
        open_store(url)


@pytest.mark.parametrize(
    "key",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "C:/a", "C:a", "a:b", "a\x00b",
     "a\nb", "a\x1b[2J", "a\x9b2J", "a\u2028b", "a\u202egnp.exe", "a\u2066b",
     "con", "x/NUL", "aux.txt", "COM1", "lpt9.log", "a/trailing.", "a/trailing ", ".env",
     "a/.lock",
     "a?b", "a*b", 'a"b', "a<b", "a|b", "x" * 241, "x/" * 500 + "x", "\ud800"],
)  # fmt: skip
def test_no_key_leads_out_or_into_trouble(key: str) -> None:
    """One gate for every backend and system: traversal, drives, devices, hidden files, control characters."""
    with pytest.raises(SettingsError):
        check_key(key)


@given(key=st.text(max_size=60))
def test_a_key_that_passes_stays_below_the_root(key: str) -> None:
    """Whatever text is a key, its file is inside the store's folder."""
    try:
        check_key(key)
    except SettingsError:
        return
    root = Path("/store")
    path = Path(os.path.normpath(root.joinpath(*key.split("/"))))
    assert root in path.parents
    assert path.relative_to(root).as_posix() == key


@pytest.mark.parametrize("narration_id", ["a", "chapter-3", "0", "a" * 100, "intro-draft"])
def test_a_slug_is_an_id(narration_id: str) -> None:
    """Lowercase letters, digits and inner hyphens."""
    assert validate_id(narration_id) == narration_id


@pytest.mark.parametrize(
    "narration_id",
    [
        "",
        "A",
        "a_b",
        "-a",
        "a-",
        "a b",
        "../a",
        "a/b",
        "a.b",
        "ä",
        "a" * 101,
        "con",
        "nul",
        "com1",
        "a\n",
        "\u0661",
    ],
)
def test_anything_else_is_no_id(narration_id: str, folder: Path) -> None:
    """The message says what an id is made of."""
    with pytest.raises(SettingsError, match="a-z, 0-9 and -"):
        validate_id(narration_id)
    with pytest.raises(SettingsError):
        open_store(str(folder)).manifests.read(narration_id)


# Many at once


def test_of_many_first_manifests_one_is_written(store: Store) -> None:
    """Sixteen writers at the same moment: one wins, the others are told."""
    start = threading.Barrier(16)

    def write(n: int) -> bool:
        start.wait()
        try:
            store.manifests.replace("race", str(n).encode(), if_match=None)
        except ManifestConflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert sum(won) == 1
    stored = store.manifests.read("race")
    assert stored is not None
    assert stored[0] == str(won.index(True)).encode()


def _child(place: Place, code: str, *args: object) -> subprocess.Popen[str]:
    """A process of its own with the store open."""
    head = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from narration.store import open_store; store = open_store(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, place.url, str(Path(__file__).parent), *map(str, args)],
        env={**os.environ, **place.env},
        stdout=subprocess.PIPE,
        text=True,
    )


COUNT_UP = """
from narration.errors import ManifestConflict
for _ in range(int(sys.argv[3])):
    while True:
        stored = store.manifests.read("counter")
        value, etag = (int(stored[0]), stored[1]) if stored else (0, None)
        try:
            store.manifests.replace("counter", str(value + 1).encode(), if_match=etag)
            break
        except ManifestConflict:
            pass
"""


def test_two_processes_lose_no_change_of_a_manifest(place: Place) -> None:
    """Each reads, changes and replaces ten times: all twenty changes are in the end."""
    children = [_child(place, COUNT_UP, 10) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    for child in children:
        child.communicate()
    stored = place.open().manifests.read("counter")
    assert stored is not None
    assert stored[0] == b"20"


PUT_CLIPS = """
import hashlib
from support.stores import digest_of, sidecar_of
for n in range(int(sys.argv[3])):
    flac = (sys.argv[4] * 3000 + str(n)).encode() + b"." * int(sys.argv[5])
    digest = digest_of(f"shared {n}")
    store.clips.put(digest, flac, sidecar_of(digest, flac, text=sys.argv[4]))
"""


def test_two_processes_writing_the_same_clips_are_harmless(place: Place) -> None:
    """Different audio under the same digests, in the same moments: every clip is one writer's, whole."""
    children = [_child(place, PUT_CLIPS, 8, name, size) for name, size in (("left", 0), ("right", 1))]
    for child in children:
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0, 0]
    store = place.open()
    clips = store.clips.find_many(digest_of(f"shared {n}") for n in range(8))
    assert len(clips) == 8
    for clip in clips.values():
        assert store.clips.read(clip).startswith(clip.sidecar.text.encode())


def test_crossed_writes_of_one_clip_settle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio of one writer under the sidecar of the other, the worst order, does not last."""
    others = FLAC[:-1]
    real, crossed = store._objects.put, [False]

    def put_crossed(key: str, data: bytes, **options: Any) -> str:
        etag = real(key, data, **options)
        if key == audio_key(D) and not crossed[0]:
            crossed[0] = True  # the other writer's audio lands after ours, its sidecar before ours
            real(key, others, content_type="audio/flac")
            real(
                sidecar_key(D),
                sidecar_of(D, others).to_json(),
                content_type="application/json",
            )
        return etag

    monkeypatch.setattr(store._objects, "put", put_crossed)
    kept = store.clips.put(D, FLAC, sidecar_of(D, FLAC))
    assert crossed[0]
    assert store.clips.find(D) == kept
    assert store.clips.read(kept) == FLAC


PUT_FOR_EVER = """
from support.stores import digest_of, sidecar_of
import itertools
print("ready", flush=True)
for n in itertools.count():
    flac = b"fLaC" + str(n).encode() * 60_000
    digest = digest_of(f"killed {n}")
    store.clips.put(digest, flac, sidecar_of(digest, flac))
    stored = store.manifests.read("killed")
    store.manifests.replace("killed", str(n).encode() * 1000, if_match=stored and stored[1])
    print(n, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_nothing_by_half(place: Place) -> None:
    """After SIGKILL every clip is whole or missing, all reported ones are there, and writing goes on."""
    store = place.open()
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    for _ in range(2 if place.env else 4):
        child = _child(place, PUT_FOR_EVER)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.02, 0.25))
        child.send_signal(signal.SIGKILL)
        done = [int(line) for line in child.stdout if line.strip()]
        child.wait()
        child.stdout.close()
        reported = done[-1] + 1 if done else 0
        clips = store.clips.find_many(digest_of(f"killed {n}") for n in range(reported + 1))
        assert len(clips) >= reported, f"seed {seed}"
        for clip in clips.values():
            store.clips.read(clip)
        stored = store.manifests.read("killed")
        if stored is not None:
            digits = stored[0].decode()
            assert digits == digits[: len(digits) // 1000] * 1000, f"seed {seed}"
        for info in store._objects.list("clips/"):
            assert info.key.endswith((".flac", ".json"))
    store.manifests.replace("killed", b"alive", if_match=stored[1] if stored else None)


def test_readers_see_the_old_manifest_or_the_new_one(store: Store) -> None:
    """While it is replaced again and again, a reader never sees a mixture."""
    texts = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    etag = store.manifests.replace("read", texts[0], if_match=None)
    done = threading.Event()

    def read() -> int:
        seen = 0
        while not done.is_set() or not seen:
            stored = store.manifests.read("read")
            assert stored is not None
            assert stored[0] in texts
            seen += 1
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for text in texts[1:] * 3:
            etag = store.manifests.replace("read", text, if_match=etag)
        done.set()
        assert all(reader.result() for reader in readers)


# The folder alone


def test_reading_makes_no_folder(folder: Path) -> None:
    """A plan on a store that does not exist yet leaves no trace."""
    store = open_store(str(folder))
    assert store.clips.find(D) is None
    assert store.manifests.ids() == []
    assert not folder.exists()


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The message names the path."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreRefused, match=r"file is not a folder"):
        open_store(str(file))
    with pytest.raises(StoreRefused, match="Not a directory"):
        open_store(str(file / "below")).check_writable()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, StoreRefused, "no room left"),
        (errno.EDQUOT, StoreRefused, "no room left"),
        (errno.EROFS, StoreRefused, "Read-only file system"),
        (errno.EACCES, StoreRefused, "Permission denied"),
        (errno.EIO, StoreUnavailable, "Input/output error"),
        (errno.EMFILE, StoreUnavailable, "Too many open files"),
    ],
)
def test_what_the_disk_says_reaches_the_person(
    number: int, kind: type[StoreError], words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trouble of the disk names the folder and the remedy, and leaves nothing half written."""
    store = open_store(str(folder))
    put(store)

    def fail(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(kind, match=words) as refusal:
        put(store, digest_of("another"))
    assert str(folder) in str(refusal.value)
    assert refusal.value.remedy
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2


def test_a_folder_that_may_not_be_written_is_refused(folder: Path) -> None:
    """A read-only folder fails the probe; asked as a user who is not root, whom nothing stops."""
    folder.mkdir()
    for path in takewhile(lambda path: path.name.startswith(("test_", "popen-", "pytest-")), folder.parents):
        path.chmod(0o755)
    folder.chmod(0o555)
    code = (
        "import os, sys\n"
        "from narration.store import open_store\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    open_store(sys.argv[1]).check_writable()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False, cwd="/"
    )
    folder.chmod(0o755)
    assert done.stdout.startswith("StoreRefused cannot write in the store"), done.stderr
    assert "Permission denied" in done.stdout


def test_a_disk_with_hardly_any_room_fails_the_probe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A narration would run out of it half way, so it is refused before the first clip is paid."""
    monkeypatch.setattr("narration.store.store.MIN_FREE_BYTES", 1 << 62)
    with pytest.raises(StoreRefused, match="MB of room left"):
        open_store(str(folder)).check_writable()


def test_what_a_killed_writer_left_is_never_seen_and_goes_in_time(folder: Path) -> None:
    """A partial file is no object; after a day the next listing deletes it."""
    store = open_store(str(folder))
    put(store)
    fresh, stale = (atomic.partial_path(folder / audio_key(D)) for _ in range(2))
    for partial in (fresh, stale):
        partial.write_bytes(b"half")
    long_ago = time.time() - atomic.STALE_SECONDS - 60
    os.utime(stale, (long_ago, long_ago))
    assert {info.key for info in store._objects.list("clips/")} == {audio_key(D), sidecar_key(D)}
    assert fresh.exists()
    assert not stale.exists()


def test_a_file_in_use_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace a file that somebody reads this moment; a moment later it can be."""
    store = open_store(str(folder))
    refused: list[Path] = []
    real = Path.replace

    def refuse_twice(self: Path, target: Path) -> Path:
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refuse_twice)
    store.manifests.replace("intro", b"1", if_match=None)
    assert len(refused) == 2
    monkeypatch.undo()
    assert store.manifests.read("intro") is not None


def test_a_folder_store_needs_no_boto3(folder: Path) -> None:
    """The import of boto3 is for S3 alone, so that `narrate plan` starts in under a second."""
    code = (
        "import sys; from narration.store import open_store; open_store(sys.argv[1]).manifests.ids();"
        "print([name for name in ('boto3', 'httpx', 'numpy', 'prefect') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
