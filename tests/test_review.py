"""The review page of a narration, opened in Chromium."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from support.browser import Page, browsing
from support.deployments import FLOWS_HERE, FlowWorkspace
from support.stores import new_s3_address, server

from flows.narrate import narrate
from flows.retake import retake
from flows.review import review
from narration.errors import Damaged, InputError
from narration.manifest import Manifest, dump_manifest, load_manifest
from narration.publishing import publisher, renew_review
from narration.publishing.retake_command import retake_command, review_command
from narration.publishing.review import render_review
from narration.store import Store, open_store
from narration.store.layout import audio_key

pytestmark = FLOWS_HERE

ID = "hostile-draft"
HOSTILE = (
    'This one says <img src=x onerror="window.injected=1"> & <b>bold</b>, and \'"> besides, as a chunk.',
    "This one says </script><script>window.injected=1</script> and </blockquote> in the midst of its words.",
    "And this one is harmless, but for its quotes: \"one\" and 'two', which are what they are, of course.",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def served(workspace: FlowWorkspace) -> Iterator[str]:
    """The address of a web server for the folder of the store."""
    handler = functools.partial(_Quiet, directory=str(workspace.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def narrate_hostile_text() -> None:
    await narrate(narration_id="hostile", text="# A <u>title</u> & more\n\n" + "\n\n".join(HOSTILE))
    # In a script, Markdown would read the markup; the text of a retake is taken as it is.
    await retake(narration_id="hostile", chunks=[2, 3], texts={2: HOSTILE[0], 3: HOSTILE[1]})


def manifest_in(store: Store) -> Manifest:
    stored = store.manifests.read(ID)
    assert stored is not None
    return load_manifest(stored[0], name=ID)


def manifest_of(workspace: FlowWorkspace) -> Manifest:
    return manifest_in(workspace.store)


def review_of(workspace: FlowWorkspace) -> str:
    """The key of the published page in the store."""
    entry = manifest_of(workspace).file("html")
    assert entry is not None
    return entry.key


PLAY = """(async () => {
  const player = document.querySelectorAll("audio")[INDEX];
  await player.play();
  while (player.currentTime <= 0.1) await new Promise((done) => setTimeout(done, 20));
  return [player.currentTime, player.duration, player.error === null];
})()"""


@pytest.mark.parametrize("way", ["http", "file"])
async def test_every_chunk_can_be_heard(workspace: FlowWorkspace, page: Page, served: str, way: str) -> None:
    """Each player plays its own clip, whether the page is read from a server or from disk."""
    await workspace.after(narrate_hostile_text)
    base = served if way == "http" else workspace.folder.as_uri()
    page.open(f"{base}/{review_of(workspace)}")
    lengths = {chunk.index: chunk.end - chunk.start for chunk in manifest_of(workspace).chunks}
    shown = page.evaluate('[...document.querySelectorAll("article")].map((a) => a.id)')
    assert len(shown) == len(lengths) == 4
    for index, name in enumerate(shown):
        position, duration, without_error = page.evaluate(PLAY.replace("INDEX", str(index)))
        assert without_error
        assert position > 0.1
        assert duration == pytest.approx(lengths[int(name.removeprefix("chunk-"))], abs=0.6)
    playing = page.evaluate('[...document.querySelectorAll("audio")].map((a) => !a.paused)')
    assert playing.count(True) <= 1, "a player that starts pauses the others"


async def test_a_script_cannot_put_anything_into_the_page(
    workspace: FlowWorkspace, page: Page, served: str
) -> None:
    """Text that looks like markup is shown as text: it adds no element to the page and runs no script."""
    await workspace.after(narrate_hostile_text)
    page.open(f"{served}/{review_of(workspace)}")
    texts = page.evaluate(
        'Object.fromEntries([...document.querySelectorAll("article")]'
        '.map((a) => [a.id, a.querySelector("blockquote").textContent]))'
    )
    manifest = manifest_of(workspace)
    assert texts == {f"chunk-{chunk.index}": chunk.text for chunk in manifest.chunks}
    assert [manifest.chunks[1].text, manifest.chunks[2].text] == list(HOSTILE[:2])
    assert page.evaluate("window.injected") is None
    assert page.evaluate('document.querySelectorAll("img, b, u").length') == 0
    assert page.evaluate('document.querySelectorAll("script").length') == 1


async def test_the_worst_chunk_is_first_until_the_order_is_changed(
    workspace: FlowWorkspace, page: Page, tmp_path: Path
) -> None:
    """Chunks with flags are first, then those with a low score; a button switches to the script's order."""
    await workspace.after(narrate_hostile_text)
    manifest = manifest_of(workspace)
    doubts = {3: (("pace: too slow",), 0.4), 2: ((), 0.2), 4: ((), 0.9), 1: ((), 0.95)}
    chunks = [
        chunk.model_copy(update={"flags": doubts[chunk.index][0], "score": doubts[chunk.index][1]})
        for chunk in manifest.chunks
    ]
    waveforms = dict.fromkeys((chunk.digest for chunk in chunks), "M0 1V2")
    changed = manifest.model_copy(update={"chunks": tuple(chunks)})
    path = tmp_path / "page.html"
    path.write_text(render_review(changed, waveforms, lambda _: "clip.flac", store="here", links_until=None))
    page.open(path.as_uri())
    order = """[...document.querySelectorAll("article")]
      .map((a) => [a.getBoundingClientRect().top, Number(a.id.slice(6))])
      .sort((a, b) => a[0] - b[0]).map((pair) => pair[1])"""
    assert page.evaluate(order) == [3, 2, 4, 1]
    page.evaluate('document.getElementById("order").click()')
    assert page.evaluate(order) == [1, 2, 3, 4]
    page.evaluate('document.getElementById("order").click()')
    assert page.evaluate(order) == [3, 2, 4, 1]
    assert page.evaluate('document.querySelector("article.doubt li").textContent') == "pace: too slow"


async def test_each_chunk_shows_the_command_that_retakes_it(
    workspace: FlowWorkspace, page: Page, served: str
) -> None:
    """The page shows each chunk's retake command, and a button that copies it."""
    await workspace.after(narrate_hostile_text)
    renew_review(workspace.store, ID)  # the workspace is a copy, and commands name the store's folder
    page.open(f"{served}/{review_of(workspace)}")
    commands = page.evaluate('[...document.querySelectorAll("code")].map((c) => c.textContent)')
    assert sorted(commands) == [
        f"narrate retake {ID} {number} --store {workspace.folder} --engine draft" for number in (1, 2, 3, 4)
    ]
    copied = page.evaluate('[...document.querySelectorAll("[data-copy]")].map((b) => b.dataset.copy)')
    assert copied == commands
    assert page.evaluate(
        'new Set([...document.querySelectorAll("svg path")].map((p) => p.getAttribute("d"))).size'
    ) == len(commands), "each chunk has its own waveform"
    assert json.loads(page.evaluate("JSON.stringify(performance.getEntriesByType('resource'))")) == []


async def test_the_commands_work_in_a_shell(workspace: FlowWorkspace, tmp_path: Path) -> None:
    """They work in any folder and without settings, also for a store with spaces and `$` in its path."""
    await workspace.after(narrate_hostile_text)
    store = shutil.copytree(workspace.folder, tmp_path / "the review's store & $HOME")
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in {"NARRATION_STORE", "NARRATION_ENGINE"}
    }
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def paste(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    again = retake_command(ID, [1, 4], store=str(store), engine="draft")
    done = await asyncio.to_thread(paste, again)
    assert done.returncode == 0, done.stderr
    takes = [chunk.take for chunk in manifest_in(open_store(str(store))).chunks]
    assert takes == [2, 2, 2, 2]
    assert [chunk.take for chunk in manifest_of(workspace).chunks] == [1, 2, 2, 1]
    done = await asyncio.to_thread(paste, review_command(ID, store=str(store)))
    page = Path(url2pathname(urlsplit(done.stdout.strip()).path))
    assert "<html" in await asyncio.to_thread(page.read_text, encoding="utf-8"), done.stderr


def test_commands_are_quoted_for_a_shell() -> None:
    """Arguments that a shell would change are quoted; only the command for a draft has an engine."""
    assert (
        retake_command("intro", [3, 7], store="s3://bucket/prefix", engine="higgs")
        == "narrate retake intro 3 7 --store s3://bucket/prefix"
    )
    assert review_command("intro", store="/a b/$c") == "narrate review intro --store '/a b/$c'"


@pytest.fixture
def bucket(workspace: FlowWorkspace, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store in S3 for the flows of this test."""
    assert workspace.store
    place = new_s3_address(server("moto"), monkeypatch)
    monkeypatch.setenv("NARRATION_STORE", place.url)
    return place.open()


async def test_a_renewed_page_has_links_that_play(bucket: Store, page: Page) -> None:
    """A renewed page is all that changes of a narration; its players work without credentials."""
    await narrate_hostile_text()
    before = manifest_in(bucket)
    await asyncio.sleep(1.1)  # links hold the second in which they were signed
    await review(narration_id="hostile")
    after = manifest_in(bucket)
    old, new = before.file("html"), after.file("html")
    assert old is not None
    assert new is not None
    assert old.key != new.key
    assert bucket.files.has(old.key, old.size), "the old page stays"
    assert after.model_copy(update={"files": ()}) == before.model_copy(update={"files": ()})
    assert set(after.files) - {new} == set(before.files) - {old}
    async with get_client() as client:
        (artifact, *_) = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["review-hostile"]))
        )
    link = str(artifact.data).partition("](")[2].removesuffix(")")
    page.open(link)
    position, _, without_error = page.evaluate(PLAY.replace("INDEX", "0"))
    assert without_error
    assert position > 0.1
    (first, *_) = page.evaluate('[...document.querySelectorAll("code")].map((c) => c.textContent)')
    assert first == review_command(ID, store=bucket.location)


async def test_a_page_is_renewed_for_the_manifest_published_meanwhile(
    workspace: FlowWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another run publishes while a page is made, its manifest is kept and gets the page."""
    await workspace.after(narrate_hostile_text)
    entry = manifest_of(workspace).file("html")
    assert entry is not None
    (workspace.folder / entry.key).unlink()

    def publish_meanwhile(manifest: Manifest, *positional: Any, **named: Any) -> str:
        stored = workspace.store.manifests.read(ID)
        assert stored is not None
        if manifest.title != "Another":
            other = manifest.model_copy(update={"title": "Another"})
            workspace.store.manifests.replace(ID, dump_manifest(other), if_match=stored[1])
        return render_review(manifest, *positional, **named)

    monkeypatch.setattr(publisher, "render_review", publish_meanwhile)
    renew_review(workspace.store, "hostile")
    manifest = manifest_of(workspace)
    assert manifest.title == "Another"
    assert "Another" in (workspace.folder / review_of(workspace)).read_text()


async def test_a_page_is_not_renewed_without_its_narration_and_clips(workspace: FlowWorkspace) -> None:
    """An unknown narration, and a chunk whose clip is gone, are named in the error."""
    await workspace.after(narrate_hostile_text)
    with pytest.raises(InputError, match="no narration nobody"):
        renew_review(workspace.store, "nobody")
    (workspace.folder / audio_key(manifest_of(workspace).chunks[2].digest)).unlink()
    with pytest.raises(Damaged, match="chunk 3"):
        renew_review(workspace.store, ID)
