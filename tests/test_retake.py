"""Other takes of single chunks: made, chosen again, kept through edits, and never lost to each other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from support.deployments import FLOWS_HERE, FlowWorkspace

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


async def test_only_the_chunks_named_are_taken_again(workspace: FlowWorkspace) -> None:
    """Two jobs for two chunks; what they said before stays in the store, and is in the manifest."""
    await workspace.after(narrated)
    before = workspace.manifest(ID)
    workspace.endpoint.reset()
    report = await retake(narration_id="four", chunks=[2, 4])
    after = workspace.manifest(ID)
    assert (report["synthesized"], report["cached"], report["failed"]) == (2, 2, 0)
    assert len(workspace.endpoint.submitted) == 2
    assert takes_of(after) == [(1, [1]), (2, [1, 2]), (1, [1]), (2, [1, 2])]
    assert after["chunks"][1]["takes"][0]["digest"] == before["chunks"][1]["digest"]
    digests = {take["digest"] for chunk in after["chunks"] for take in chunk["takes"]}
    assert set(workspace.store.clips.find_many(digests)) == digests


async def test_an_earlier_take_comes_back_without_a_job(workspace: FlowWorkspace) -> None:
    """Going back costs nothing, and the later take stays for another change of mind."""
    await workspace.after(narrated)
    await retake(narration_id="four", chunks=[2], seed=77, texts={2: OTHERWISE})
    second = workspace.manifest(ID)["chunks"][1]
    assert (second["text"], second["seed"]) == (OTHERWISE, 77)
    assert second["source_text"] == SECOND
    workspace.endpoint.reset()
    await retake(narration_id="four", chunks=[2], take=1)
    first = workspace.manifest(ID)["chunks"][1]
    assert (first["take"], first["text"]) == (1, SECOND)
    await retake(narration_id="four", chunks=[2], take=2)
    again = workspace.manifest(ID)["chunks"][1]
    assert (again["text"], again["seed"], again["digest"]) == (second["text"], 77, second["digest"])
    assert workspace.endpoint.submitted == []


async def test_a_further_take_keeps_the_other_words(workspace: FlowWorkspace) -> None:
    """Who changed the words and dislikes the sound wants those words again."""
    await workspace.after(narrated)
    await retake(narration_id="four", chunks=[2], texts={2: OTHERWISE})
    await retake(narration_id="four", chunks=[2])
    chunk = workspace.manifest(ID)["chunks"][1]
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


async def test_what_cannot_be_taken_is_refused_naming_it(workspace: FlowWorkspace) -> None:
    """Wrong chunks, takes and words: nothing is submitted, nothing published."""
    await workspace.after(narrated)
    written = workspace.store.manifests.read(ID)
    workspace.endpoint.reset()
    for wrong, said in BAD:
        with pytest.raises((InputError, ParameterTypeError), match=said):
            await retake(**({"narration_id": "four"} | wrong))
    assert workspace.endpoint.submitted == []
    assert workspace.store.manifests.read(ID) == written


async def test_an_edited_script_keeps_the_takes_of_what_stayed(workspace: FlowWorkspace) -> None:
    """Chunks keep their takes by their words, nth to nth; choices without a chunk are reported."""
    twice = FOUR.replace(FOURTH, FIRST)
    await narrated(twice)
    await retake(narration_id="four", chunks=[2, 3, 4])
    workspace.endpoint.reset()
    edited = f"{FOURTH}\n\n" + twice.replace(SECOND, OTHERWISE)
    report = await narrated(edited)
    manifest = workspace.manifest(ID)
    assert workspace.endpoint.submitted == [FOURTH, OTHERWISE]
    assert [take for take, _ in takes_of(manifest)] == [1, 1, 1, 2, 2]
    assert report["dropped"] == [SECOND]


async def test_two_retakes_at_once_both_hold(workspace: FlowWorkspace) -> None:
    """Whoever publishes second plans again on what the first one chose."""
    await workspace.after(narrated)
    await asyncio.gather(
        retake(narration_id="four", chunks=[1]),
        retake(narration_id="four", chunks=[3]),
        retake(narration_id="four", chunks=[3]),
    )
    assert takes_of(workspace.manifest(ID)) == [(2, [1, 2]), (1, [1]), (3, [1, 2, 3]), (1, [1])]


async def test_a_manifest_of_a_newer_schema_is_left_alone(workspace: FlowWorkspace) -> None:
    """A program that cannot read a manifest does not write over it, nor pay for what it could not publish."""
    await workspace.after(narrated)
    found = workspace.store.manifests.read(ID)
    assert found is not None
    newer = json.dumps(json.loads(found[0]) | {"schema_version": 99}).encode()
    workspace.store.manifests.replace(ID, newer, if_match=found[1])
    workspace.endpoint.reset()
    for attempt in (retake(narration_id="four", chunks=[1]), narrated(f"{FOUR}\n{OTHERWISE}\n")):
        with pytest.raises(StoreRefused, match="schema version 99"):
            await attempt
    kept = workspace.store.manifests.read(ID)
    assert kept is not None
    assert kept[0] == newer
    assert workspace.endpoint.submitted == []
