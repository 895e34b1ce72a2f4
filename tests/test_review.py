"""The review page, opened and played in a real browser."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser_kit import Page, browsing
from deployment_kit import FLOWS_HERE, Shelf, setting, shelf

from flows.narrate import narrate
from flows.retake import retake
from narration.manifest import Manifest, load_manifest
from narration.review import render_review

__all__ = ["setting", "shelf"]  # fixtures

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
        """Say nothing."""


@pytest.fixture
def served(shelf: Shelf) -> Iterator[str]:
    """Address of the store's folder, served as any web server would."""
    handler = functools.partial(_Quiet, directory=str(shelf.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def hostile() -> None:
    await narrate(narration_id="hostile", text="# A <u>title</u> & more\n\n" + "\n\n".join(HOSTILE))
    # As source text Markdown reads markup as such; as other words for a chunk it is only words.
    await retake(narration_id="hostile", chunks=[2, 3], texts={2: HOSTILE[0], 3: HOSTILE[1]})


def manifest_of(shelf: Shelf) -> Manifest:
    found = shelf.store.read_manifest(ID)
    assert found is not None
    return load_manifest(found[0], name=ID)


def review_of(shelf: Shelf) -> str:
    """Key of the published page."""
    entry = manifest_of(shelf).file("html")
    assert entry is not None
    return entry.key


PLAY = """(async () => {
  const player = document.querySelectorAll("audio")[INDEX];
  await player.play();
  while (player.currentTime <= 0.1) await new Promise((done) => setTimeout(done, 20));
  return [player.currentTime, player.duration, player.error === null];
})()"""


@pytest.mark.parametrize("way", ["http", "file"])
async def test_every_chunk_can_be_heard(shelf: Shelf, page: Page, served: str, way: str) -> None:
    """Each player plays its own clip, for as long as the manifest says, from a server or the disk."""
    await shelf.after(hostile)
    base = served if way == "http" else shelf.folder.as_uri()
    page.open(f"{base}/{review_of(shelf)}")
    lengths = {chunk.index: chunk.end - chunk.start for chunk in manifest_of(shelf).chunks}
    shown = page.evaluate('[...document.querySelectorAll("article")].map((a) => a.id)')
    assert len(shown) == len(lengths) == 4
    for index, name in enumerate(shown):
        at, duration, fine = page.evaluate(PLAY.replace("INDEX", str(index)))
        assert fine
        assert at > 0.1
        assert duration == pytest.approx(lengths[int(name.removeprefix("chunk-"))], abs=0.6)
    playing = page.evaluate('[...document.querySelectorAll("audio")].map((a) => !a.paused)')
    assert playing.count(True) <= 1, "one player silences the others"


async def test_a_script_cannot_put_anything_into_the_page(shelf: Shelf, page: Page, served: str) -> None:
    """What looks like markup is words: shown as they are, no element of theirs, nothing of theirs run."""
    await shelf.after(hostile)
    page.open(f"{served}/{review_of(shelf)}")
    texts = page.evaluate(
        'Object.fromEntries([...document.querySelectorAll("article")]'
        '.map((a) => [a.id, a.querySelector("blockquote").textContent]))'
    )
    manifest = manifest_of(shelf)
    assert texts == {f"chunk-{chunk.index}": chunk.text for chunk in manifest.chunks}
    assert [manifest.chunks[1].text, manifest.chunks[2].text] == list(HOSTILE[:2])
    assert page.evaluate("window.injected") is None
    assert page.evaluate('document.querySelectorAll("img, b, u").length') == 0
    assert page.evaluate('document.querySelectorAll("script").length') == 1


async def test_the_worst_comes_first_until_the_scripts_order_is_asked_for(
    shelf: Shelf, page: Page, tmp_path: Path
) -> None:
    """Doubts first, then by score; the button shows the order of the script, and back."""
    await shelf.after(hostile)
    manifest = manifest_of(shelf)
    doubts = {3: (("pace: too slow",), 0.4), 2: ((), 0.2), 4: ((), 0.9), 1: ((), 0.95)}
    chunks = [
        chunk.model_copy(update={"flags": doubts[chunk.index][0], "score": doubts[chunk.index][1]})
        for chunk in manifest.chunks
    ]
    waveforms = dict.fromkeys((chunk.digest for chunk in chunks), "M0 1V2")
    made = manifest.model_copy(update={"chunks": tuple(chunks)})
    path = tmp_path / "page.html"
    path.write_text(render_review(made, waveforms, lambda _: "clip.flac", links_until=None))
    page.open(path.as_uri())
    seen = """[...document.querySelectorAll("article")]
      .map((a) => [a.getBoundingClientRect().top, Number(a.id.slice(6))])
      .sort((a, b) => a[0] - b[0]).map((pair) => pair[1])"""
    assert page.evaluate(seen) == [3, 2, 4, 1]
    page.evaluate('document.getElementById("order").click()')
    assert page.evaluate(seen) == [1, 2, 3, 4]
    page.evaluate('document.getElementById("order").click()')
    assert page.evaluate(seen) == [3, 2, 4, 1]
    assert page.evaluate('document.querySelector("article.doubt li").textContent') == "pace: too slow"


async def test_each_chunk_names_the_command_that_takes_it_again(
    shelf: Shelf, page: Page, served: str
) -> None:
    """A person copies it from the page."""
    await shelf.after(hostile)
    page.open(f"{served}/{review_of(shelf)}")
    commands = page.evaluate('[...document.querySelectorAll("code")].map((c) => c.textContent)')
    assert sorted(commands) == [f"narrate retake {ID} {number}" for number in (1, 2, 3, 4)]
    copied = page.evaluate('[...document.querySelectorAll("[data-copy]")].map((b) => b.dataset.copy)')
    assert copied == commands
    assert page.evaluate(
        'new Set([...document.querySelectorAll("svg path")].map((p) => p.getAttribute("d"))).size'
    ) == len(commands), "each its own waveform"
    assert json.loads(page.evaluate("JSON.stringify(performance.getEntriesByType('resource'))")) == []
