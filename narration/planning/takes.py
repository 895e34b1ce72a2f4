"""Which take of a chunk is meant, and what is asked of the worker for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from narration.chunking import Chunk
from narration.contract import FRAME_RATE, MAX_FRAME_CAP, MIN_FRAME_CAP, SynthesisRequest, digest
from narration.errors import InputError
from narration.manifest import TakeEntry, TakeHistory
from narration.planning.plan import PlannedChunk
from narration.speech_duration import expected_seconds


@dataclass(frozen=True, slots=True)
class RetakeRequest:
    """What a person asks of one chunk: another take (`take` None), or one made before."""

    take: int | None = None
    seed: int | None = None
    text: str | None = None
    asked_by: str | None = None  # the run that asks: asking again makes no further take


def retake_requests(
    chunks: Sequence[int],
    *,
    seed: int | None,
    texts: Mapping[int, str],
    take: int | None,
    asked_by: str | None = None,
) -> dict[int, RetakeRequest]:
    """Changes to `chunks` (from 1) as a retake asks for them; raises `InputError` for contradictions."""
    strays = sorted(set(texts) - set(chunks))
    if strays:
        raise InputError(f"text is given for chunk {strays[0]}, which is not among those to take again")
    if take is not None and (seed is not None or texts):
        raise InputError("an earlier take has its own seed and text", remedy="give --take alone")
    blank = [index for index, text in texts.items() if not text.strip()]
    if blank:
        raise InputError(f"the text for chunk {blank[0]} is empty")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"the seed {seed} is not between 0 and 2^63")
    return {
        index: RetakeRequest(take=take, seed=seed, text=texts.get(index), asked_by=asked_by)
        for index in chunks
    }


def plan_chunk(
    chunk: Chunk,
    base: SynthesisRequest,
    remembered: TakeHistory | None,
    change: RetakeRequest | None,
    previous: str | None,
) -> PlannedChunk:
    """A chunk's request and identity: the take that is asked for, else the one remembered, else the first.

    Raises `InputError` for a take that was never made and a text that no request can carry.
    """
    takes = remembered.takes if remembered else ()
    current = remembered.current if remembered else None
    take = current.take if current else 1
    seed, text = (current.seed, current.text) if current else (None, None)
    if change is not None:
        if change.take is not None and (back := _find_take(takes, change.take)):
            take, seed, text = back.take, back.seed, back.text
        elif change.take is not None:
            known = ", ".join(str(entry.take) for entry in takes) or "none yet"
            raise InputError(f"chunk {chunk.index} has no take {change.take}", remedy=f"takes made: {known}")
        elif asked := _find_asked(takes, change.asked_by):
            take, seed, text = asked.take, asked.seed, asked.text
        else:
            take = max((entry.take for entry in takes), default=1) + 1
            seed = change.seed
            text = change.text if change.text is not None else text
    request = _request_for(base, text if text is not None else chunk.text, seed)
    identity = digest(request, take=take, previous=previous)
    asked_by = change.asked_by if change and change.take is None else _asker(takes, take)
    made = TakeEntry(take=take, digest=identity, seed=seed, text=text, asked_by=asked_by)
    others = [entry for entry in takes if entry.take != take]
    if not takes and take > 1:
        first = _request_for(base, chunk.text, None)
        others.append(TakeEntry(take=1, digest=digest(first, previous=previous)))
    choice = TakeHistory(take, tuple(sorted([*others, made], key=lambda entry: entry.take)))
    return PlannedChunk(chunk, request, identity, previous, choice, clip=None)


def _find_take(takes: Sequence[TakeEntry], number: int) -> TakeEntry | None:
    return next((entry for entry in takes if entry.take == number), None)


def _find_asked(takes: Sequence[TakeEntry], run: str | None) -> TakeEntry | None:
    return next((entry for entry in takes if run is not None and entry.asked_by == run), None)


def _asker(takes: Sequence[TakeEntry], number: int) -> str | None:
    found = _find_take(takes, number)
    return found.asked_by if found else None


def _request_for(base: SynthesisRequest, text: str, seed: int | None) -> SynthesisRequest:
    """`base` speaking `text`, capped at twice the frames it is expected to take."""
    expected = expected_seconds(text) * FRAME_RATE
    changes: dict[str, object] = {
        "prompt": text,
        "max_new_tokens": min(MAX_FRAME_CAP, max(MIN_FRAME_CAP, round(2 * expected))),
    }
    if seed is not None:
        changes["seed"] = seed
    return checked_request(**base.model_dump() | changes)


def checked_request(**fields: object) -> SynthesisRequest:
    """A request of these fields; raises `InputError` for what no request can carry."""
    try:
        return SynthesisRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(f"{first['loc'][0] if first['loc'] else 'request'}: {first['msg']}") from None
