"""Several writers and readers of one store at once, in threads and processes, some of them killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.stores import StoreAddress, digest_of

from narration.errors import ManifestConflict
from narration.store import Store

TESTS = Path(__file__).parents[1]


def test_of_many_first_manifests_one_is_written(store: Store) -> None:
    """Of sixteen writers at the same moment, one succeeds and the others get a `ManifestConflict`."""
    start = threading.Barrier(16)

    def write(n: int) -> bool:
        start.wait()
        try:
            store.manifests.replace("race", str(n).encode(), if_match=None)
        except ManifestConflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        written = list(pool.map(write, range(16)))
    assert sum(written) == 1
    stored = store.manifests.read("race")
    assert stored is not None
    assert stored.data == str(written.index(True)).encode()


def _child(address: StoreAddress, code: str, *args: object) -> subprocess.Popen[str]:
    """A process that runs `code` with the store opened as `store`."""
    head = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from narration.store import open_store; store = open_store(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, address.url, str(TESTS), *map(str, args)],
        env={**os.environ, **address.env},
        stdout=subprocess.PIPE,
        text=True,
    )


COUNT_UP = """
from narration.errors import ManifestConflict
for _ in range(int(sys.argv[3])):
    while True:
        stored = store.manifests.read("counter")
        value, etag = (int(stored.data), stored.etag) if stored else (0, None)
        try:
            store.manifests.replace("counter", str(value + 1).encode(), if_match=etag)
            break
        except ManifestConflict:
            pass
"""


def test_two_processes_lose_no_change_of_a_manifest(address: StoreAddress) -> None:
    """Two processes read, change and replace a manifest ten times each, and all twenty changes are in it."""
    children = [_child(address, COUNT_UP, 10) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    for child in children:
        child.communicate()
    stored = address.open().manifests.read("counter")
    assert stored is not None
    assert stored.data == b"20"


PUT_CLIPS = """
import hashlib
from support.stores import digest_of, sidecar_of
for n in range(int(sys.argv[3])):
    flac = (sys.argv[4] * 3000 + str(n)).encode() + b"." * int(sys.argv[5])
    digest = digest_of(f"shared {n}")
    store.clips.put(digest, flac, sidecar_of(digest, flac, text=sys.argv[4]))
"""


def test_two_processes_can_store_the_same_clips(address: StoreAddress) -> None:
    """With different audio under the same digests at the same time, every clip is one writer's, intact."""
    children = [_child(address, PUT_CLIPS, 8, name, size) for name, size in (("left", 0), ("right", 1))]
    for child in children:
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0, 0]
    store = address.open()
    clips = store.clips.find_many(digest_of(f"shared {n}") for n in range(8))
    assert len(clips) == 8
    for clip in clips.values():
        assert store.clips.read(clip).startswith(clip.sidecar.text.encode())


PUT_FOR_EVER = """
from support.stores import digest_of, sidecar_of
import itertools
print("ready", flush=True)
for n in itertools.count():
    flac = b"fLaC" + str(n).encode() * 60_000
    digest = digest_of(f"killed {n}")
    store.clips.put(digest, flac, sidecar_of(digest, flac))
    stored = store.manifests.read("killed")
    store.manifests.replace("killed", str(n).encode() * 1000, if_match=stored and stored.etag)
    print(n, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_no_partial_object(address: StoreAddress) -> None:
    """After SIGKILL every clip is intact or missing, all reported ones are stored, and writing goes on."""
    store = address.open()
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    for _ in range(2 if address.env else 4):
        child = _child(address, PUT_FOR_EVER)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.02, 0.25))
        child.kill()
        numbers = [int(line) for line in child.stdout if line.strip()]
        child.wait()
        child.stdout.close()
        reported = numbers[-1] + 1 if numbers else 0
        clips = store.clips.find_many(digest_of(f"killed {n}") for n in range(reported + 1))
        assert len(clips) >= reported, f"seed {seed}"
        for clip in clips.values():
            store.clips.read(clip)
        stored = store.manifests.read("killed")
        if stored is not None:
            digits = stored.data.decode()
            assert digits == digits[: len(digits) // 1000] * 1000, f"seed {seed}"
        for info in store.all_objects.list("clips/"):
            assert info.key.endswith((".flac", ".json"))
    store.manifests.replace("killed", b"alive", if_match=stored.etag if stored else None)


def test_readers_see_the_old_manifest_or_the_new_one(store: Store) -> None:
    """A reader never sees a mixture while a manifest is replaced again and again."""
    texts = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    etag = store.manifests.replace("read", texts[0], if_match=None)
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not done.is_set() or not reads:
            stored = store.manifests.read("read")
            assert stored is not None
            assert stored.data in texts
            reads += 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for text in texts[1:] * 3:
            etag = store.manifests.replace("read", text, if_match=etag)
        done.set()
        assert all(reader.result() for reader in readers)
