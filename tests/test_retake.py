"""Other takes of single chunks: made, chosen again, kept through edits, and never lost to each other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from support.deployments import FLOWS_HERE, Shelf

from flows.narrate import narrate
from flows.retake import retake
from narration.errors import InputError, StoreRefused

pytestmark = FLOWS_HERE

FIRST = "The first paragraph of four has one sentence of its own, long enough to be spoken alone."
SECOND = "The second paragraph says something else, and it takes a little longer to say it than the first."
OTHERWISE = "The second paragraph was put otherwise, since it did not sound well in the first place."
THIRD = "The third paragraph comes after the second, and nobody will be surprised by what it says."
FOURTH = "The fourth paragraph is the last one, and it ends here, after a few more words than needed."
FOUR = f"{FIRST}\n\n{SECOND}\n\n{THIRD}\n\n{FOURTH}\n"
ID = "four-draft"


async def narrated(text: str = FOUR) -> dict[str, Any]:
    return await narrate(narration_id="four", text=text)


def takes_of(manifest: dict[str, Any]) -> list[tuple[int, list[int]]]:
    """Each chunk's current take and all that were made."""
    return [(chunk["take"], [take["take"] for take in chunk["takes"]]) for chunk in manifest["chunks"]]


async def test_only_the_chunks_named_are_taken_again(shelf: Shelf) -> None:
    """Two jobs for two chunks; what they said before stays in the store, and is in the manifest."""
    await shelf.after(narrated)
    before = shelf.manifest(ID)
    shelf.endpoint.forget()
    report = await retake(narration_id="four", chunks=[2, 4])
    after = shelf.manifest(ID)
    assert (report["synthesized"], report["cached"], report["failed"]) == (2, 2, 0)
    assert len(shelf.endpoint.submitted) == 2
    assert takes_of(after) == [(1, [1]), (2, [1, 2]), (1, [1]), (2, [1, 2])]
    assert after["chunks"][1]["takes"][0]["digest"] == before["chunks"][1]["digest"]
    digests = {take["digest"] for chunk in after["chunks"] for take in chunk["takes"]}
    assert set(shelf.store.clips.find_many(digests)) == digests


async def test_an_earlier_take_comes_back_without_a_job(shelf: Shelf) -> None:
    """Going back costs nothing, and the later take stays for another change of mind."""
    await shelf.after(narrated)
    await retake(narration_id="four", chunks=[2], seed=77, texts={2: OTHERWISE})
    second = shelf.manifest(ID)["chunks"][1]
    assert (second["text"], second["seed"]) == (OTHERWISE, 77)
    assert second["source_text"] == SECOND
    shelf.endpoint.forget()
    await retake(narration_id="four", chunks=[2], take=1)
    first = shelf.manifest(ID)["chunks"][1]
    assert (first["take"], first["text"]) == (1, SECOND)
    await retake(narration_id="four", chunks=[2], take=2)
    again = shelf.manifest(ID)["chunks"][1]
    assert (again["text"], again["seed"], again["digest"]) == (second["text"], 77, second["digest"])
    assert shelf.endpoint.submitted == []


async def test_a_further_take_keeps_the_other_words(shelf: Shelf) -> None:
    """Who changed the words and dislikes the sound wants those words again."""
    await shelf.after(narrated)
    await retake(narration_id="four", chunks=[2], texts={2: OTHERWISE})
    await retake(narration_id="four", chunks=[2])
    chunk = shelf.manifest(ID)["chunks"][1]
    assert (chunk["take"], chunk["text"]) == (3, OTHERWISE)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"chunks": [9]}, "four-draft has no chunk 9"),
    ({"chunks": [2], "take": 5}, "chunk 2 has no take 5"),
    ({"chunks": [2], "take": 1, "seed": 3}, "own seed and text"),
    ({"chunks": [2], "texts": {3: "Other words."}}, "chunk 3, which is not among"),
    ({"chunks": [2], "texts": {2: "  "}}, "text for chunk 2 is empty"),
    ({"chunks": [2], "texts": {2: "word " * 500}}, "prompt"),
    ({"narration_id": "nobody", "chunks": [1]}, "no narration nobody-draft"),
    ({"narration_id": "Not A Slug", "chunks": [1]}, "narration_id"),
]


async def test_what_cannot_be_taken_is_refused_naming_it(shelf: Shelf) -> None:
    """Wrong chunks, takes and words: nothing is submitted, nothing published."""
    await shelf.after(narrated)
    written = shelf.store.manifests.read(ID)
    shelf.endpoint.forget()
    for wrong, said in BAD:
        with pytest.raises((InputError, ParameterTypeError), match=said):
            await retake(**({"narration_id": "four"} | wrong))
    assert shelf.endpoint.submitted == []
    assert shelf.store.manifests.read(ID) == written


async def test_an_edited_script_keeps_the_takes_of_what_stayed(shelf: Shelf) -> None:
    """Chunks keep their takes by their words, nth to nth; choices without a chunk are reported."""
    twice = FOUR.replace(FOURTH, FIRST)
    await narrated(twice)
    await retake(narration_id="four", chunks=[2, 3, 4])
    shelf.endpoint.forget()
    edited = f"{FOURTH}\n\n" + twice.replace(SECOND, OTHERWISE)
    report = await narrated(edited)
    manifest = shelf.manifest(ID)
    assert shelf.endpoint.submitted == [FOURTH, OTHERWISE]
    assert [take for take, _ in takes_of(manifest)] == [1, 1, 1, 2, 2]
    assert report["dropped"] == [SECOND]


async def test_two_retakes_at_once_both_hold(shelf: Shelf) -> None:
    """Whoever publishes second plans again on what the first one chose."""
    await shelf.after(narrated)
    await asyncio.gather(
        retake(narration_id="four", chunks=[1]),
        retake(narration_id="four", chunks=[3]),
        retake(narration_id="four", chunks=[3]),
    )
    assert takes_of(shelf.manifest(ID)) == [(2, [1, 2]), (1, [1]), (3, [1, 2, 3]), (1, [1])]


async def test_a_manifest_of_a_newer_schema_is_left_alone(shelf: Shelf) -> None:
    """A program that cannot read a manifest does not write over it, nor pay for what it could not publish."""
    await shelf.after(narrated)
    found = shelf.store.manifests.read(ID)
    assert found is not None
    newer = json.dumps(json.loads(found[0]) | {"schema_version": 99}).encode()
    shelf.store.manifests.replace(ID, newer, if_match=found[1])
    shelf.endpoint.forget()
    for attempt in (retake(narration_id="four", chunks=[1]), narrated(f"{FOUR}\n{OTHERWISE}\n")):
        with pytest.raises(StoreRefused, match="schema version 99"):
            await attempt
    kept = shelf.store.manifests.read(ID)
    assert kept is not None
    assert kept[0] == newer
    assert shelf.endpoint.submitted == []
