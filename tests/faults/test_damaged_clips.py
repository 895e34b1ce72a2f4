"""Damaged clips are synthesized again before anything is published; so are those that continue from them."""

from __future__ import annotations

import pytest

from faults.endpoint_faults import ENGINE_FAILURE, JOB_OVER
from faults.narration_case import CHUNKS, CLOSED_BY_COLLECTOR, NarrationCase
from faults.published import Published
from faults.stored_objects import DAMAGES, flip_a_bit
from narration.errors import NarrationError

pytestmark = CLOSED_BY_COLLECTOR

PARAGRAPH = """\
The lamp on the landing had been burning since the early afternoon, and nobody had seen it lit.
They went up to it one after the other, with a hand on the rail, and none of them said a word.
At the top of the stairs they found the door wide open, and the room behind it full of smoke.
It was the stove, of course, as it had been the stove in each of the winters before this one.
"""


@pytest.fixture
def continued(case: NarrationCase) -> NarrationCase:
    """A narration of one paragraph, each of whose four chunks continues from the one before."""
    case.text = PARAGRAPH
    case.env |= {"NARRATION_CONTINUITY": "true", "NARRATION_CHUNK_CHARACTERS": "100"}
    return case


@pytest.mark.fault_row("clip flipped, truncated, emptied, missing; sidecar missing, truncated, another's")
@pytest.mark.parametrize("kinds", [list(DAMAGES)[:4], list(DAMAGES)[4:]], ids=", ".join)
def test_damaged_clips_are_synthesized_again_and_never_published(
    case: NarrationCase, reference: Published, kinds: list[str]
) -> None:
    """Whatever happened to audio or sidecar, that clip costs one job more and no other does."""
    case.run()
    clips = case.stored.keys("/clips/", ".flac")
    case.damage({clip: DAMAGES[kind] for clip, kind in zip(clips, kinds, strict=False)})
    case.services.reset()
    assert case.run()["synthesized"] == len(kinds)
    assert case.services.accepted_jobs == len(kinds)
    assert case.published() == reference


@pytest.mark.fault_row("damaged clip from which a missing clip continues (`NARRATION_CONTINUITY`)")
def test_a_damaged_clip_is_synthesized_again_before_one_that_continues_from_it(
    continued: NarrationCase,
) -> None:
    """The damaged second clip comes first, then the missing third one, which continues from it."""
    continued.run()
    assert continued.services.accepted_jobs == CHUNKS
    whole = continued.published()
    _, second, third, _ = (chunk["digest"] for chunk in whole.manifest["chunks"])
    stored = continued.stored
    (flac,) = stored.keys(second, ".flac")
    stored.replace(flac, flip_a_bit)
    stored.delete(*stored.keys(third), *stored.keys("/narrations/"))
    continued.services.reset()
    assert continued.run()["synthesized"] == 2
    assert continued.services.accepted_jobs == 2
    assert continued.published() == whole
    assert stored.job_records() == []


@pytest.mark.fault_row(JOB_OVER)
def test_no_chunk_is_submitted_after_the_failed_one_that_it_continues_from(continued: NarrationCase) -> None:
    """The later chunks of the paragraph cost no job, say why, and are synthesized by the next run."""
    ENGINE_FAILURE.arrange(continued)
    with pytest.raises(NarrationError) as failure:
        continued.run()
    message = str(failure.value)
    assert "3 of 4 chunks failed, 1 are stored: chunk 2:" in message
    assert message.count("no clip to continue from") == 2
    assert continued.services.accepted_jobs == 2
    continued.services.reset()
    assert continued.run()["synthesized"] == 3
    # The second job did end well at the endpoint, so its result is fetched and not paid again.
    assert continued.services.accepted_jobs == 2
