"""The flow `retake`: new takes of chunks, earlier ones again, takes after edits, and retakes at once."""

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
    """Each chunk's current take, and the numbers of all its takes."""
    return [(chunk["take"], [take["take"] for take in chunk["takes"]]) for chunk in manifest["chunks"]]


async def test_only_the_named_chunks_get_a_new_take(workspace: FlowWorkspace) -> None:
    """Two jobs for two chunks; their earlier takes stay in the store and in the manifest."""
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


async def test_returning_to_an_earlier_take_needs_no_job(workspace: FlowWorkspace) -> None:
    """The later take stays in the manifest, and can be returned to as well."""
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


async def test_a_further_take_keeps_an_overridden_text(workspace: FlowWorkspace) -> None:
    """The override belongs to the chunk until another text is given."""
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


async def test_a_retake_of_what_does_not_exist_is_refused_by_name(workspace: FlowWorkspace) -> None:
    """Wrong chunks, takes and texts: no job is submitted, nothing is published."""
    await workspace.after(narrated)
    published = workspace.store.manifests.read(ID)
    workspace.endpoint.reset()
    for wrong, message in BAD:
        with pytest.raises((InputError, ParameterTypeError), match=message):
            await retake(**({"narration_id": "four"} | wrong))
    assert workspace.endpoint.submitted == []
    assert workspace.store.manifests.read(ID) == published


async def test_an_edited_script_keeps_the_takes_of_unchanged_chunks(workspace: FlowWorkspace) -> None:
    """Takes follow their text, nth occurrence to nth; those whose text is gone are reported."""
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


async def test_retakes_at_once_are_all_published(workspace: FlowWorkspace) -> None:
    """A run that publishes second plans again, from what the first one published."""
    await workspace.after(narrated)
    await asyncio.gather(
        retake(narration_id="four", chunks=[1]),
        retake(narration_id="four", chunks=[3]),
        retake(narration_id="four", chunks=[3]),
    )
    assert takes_of(workspace.manifest(ID)) == [(2, [1, 2]), (1, [1]), (3, [1, 2, 3]), (1, [1])]


async def test_a_manifest_of_a_newer_schema_is_not_replaced(workspace: FlowWorkspace) -> None:
    """A program that cannot read it pays for no clip either, since it could not publish the narration."""
    await workspace.after(narrated)
    stored = workspace.store.manifests.read(ID)
    assert stored is not None
    newer = json.dumps(json.loads(stored[0]) | {"schema_version": 99}).encode()
    workspace.store.manifests.replace(ID, newer, if_match=stored[1])
    workspace.endpoint.reset()
    for attempt in (retake(narration_id="four", chunks=[1]), narrated(f"{FOUR}\n{OTHERWISE}\n")):
        with pytest.raises(StoreRefused, match="schema version 99"):
            await attempt
    kept = workspace.store.manifests.read(ID)
    assert kept is not None
    assert kept[0] == newer
    assert workspace.endpoint.submitted == []
