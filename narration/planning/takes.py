"""Chooses the take of each chunk, and builds the request to the worker for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from narration.chunking import Chunk
from narration.clip_identity import digest
from narration.contract import FRAME_RATE, MAX_FRAME_CAP, MIN_FRAME_CAP, SynthesisRequest
from narration.errors import InputError
from narration.manifest import TakeEntry, TakeHistory
from narration.planning.plan import PlannedChunk
from narration.speech_duration import expected_seconds


@dataclass(frozen=True, slots=True)
class RetakeRequest:
    """What a person asks for one chunk: a new take (`take` None), or an earlier one again."""

    take: int | None = None
    seed: int | None = None
    text: str | None = None
    asked_by: str | None = None  # id of the flow run; when it retries, its take is found and not made twice


@dataclass(frozen=True, slots=True)
class _Take:
    """A take of a chunk: its number, from 1, the seed asked for, and the text in place of the chunk's own."""

    number: int
    seed: int | None = None
    text: str | None = None
    asked_by: str | None = None


def retake_requests(
    chunks: Sequence[int],
    *,
    seed: int | None,
    texts: Mapping[int, str],
    take: int | None,
    asked_by: str | None = None,
) -> dict[int, RetakeRequest]:
    """The retake of each of `chunks` (from 1), by its number; raises `InputError` for contradictions."""
    unexpected = sorted(set(texts) - set(chunks))
    if unexpected:
        raise InputError(f"text is given for chunk {unexpected[0]}, which is not among those to take again")
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
    history: TakeHistory | None,
    retake: RetakeRequest | None,
    previous: str | None,
) -> PlannedChunk:
    """Plan one chunk: its take is the one asked for, else the current one of `history`, else the first.

    `previous` is the digest of the clip that its continuity context is cut from. The clip is looked up
    later. Raises `InputError` for a take that does not exist and a text that no request can carry.
    """
    earlier = history.takes if history else ()
    take = _choose_take(chunk, history, retake)
    request = _request_for(base, chunk.text if take.text is None else take.text, take.seed)
    clip_digest = digest(request, take=take.number, previous=previous)
    entry = TakeEntry(
        take=take.number, digest=clip_digest, seed=take.seed, text=take.text, asked_by=take.asked_by
    )
    others = [other for other in earlier if other.take != take.number]
    if not earlier and take.number > 1:
        first = _request_for(base, chunk.text, None)
        others.append(TakeEntry(take=1, digest=digest(first, previous=previous)))
    takes = sorted([*others, entry], key=lambda other: other.take)
    return PlannedChunk(
        chunk, request, clip_digest, previous, TakeHistory(take.number, tuple(takes)), clip=None
    )


def _choose_take(chunk: Chunk, history: TakeHistory | None, retake: RetakeRequest | None) -> _Take:
    takes = history.takes if history else ()
    current = history.current if history else None
    if retake is None:
        return _repeat(current) if current else _Take(1)
    if retake.take is not None:
        earlier = next((entry for entry in takes if entry.take == retake.take), None)
        if earlier is None:
            numbers = ", ".join(str(entry.take) for entry in takes) or "none yet"
            raise InputError(
                f"chunk {chunk.index} has no take {retake.take}", remedy=f"takes made: {numbers}"
            )
        return _repeat(earlier)
    if retake.asked_by is not None:
        for entry in takes:
            if entry.asked_by == retake.asked_by:
                return _repeat(entry)
    number = max((entry.take for entry in takes), default=1) + 1
    text = retake.text if retake.text is not None else (current.text if current else None)
    return _Take(number, retake.seed, text, retake.asked_by)


def _repeat(entry: TakeEntry) -> _Take:
    return _Take(entry.take, entry.seed, entry.text, entry.asked_by)


def _request_for(base: SynthesisRequest, text: str, seed: int | None) -> SynthesisRequest:
    """`base` with `text` as its prompt, capped at twice the expected frames."""
    expected_frames = expected_seconds(text) * FRAME_RATE
    changes: dict[str, object] = {
        "prompt": text,
        "max_new_tokens": min(MAX_FRAME_CAP, max(MIN_FRAME_CAP, round(2 * expected_frames))),
    }
    if seed is not None:
        changes["seed"] = seed
    return checked_request(**base.model_dump() | changes)


def checked_request(**fields: object) -> SynthesisRequest:
    """A request with these fields; raises `InputError` for values that no request can have."""
    try:
        return SynthesisRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InputError(f"{first['loc'][0] if first['loc'] else 'request'}: {first['msg']}") from None
