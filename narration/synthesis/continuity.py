"""Continuity context: the last sentences of the clip before, at most 8 s, cut at a pause."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from narration import audio
from narration.audio.clip_shape import shape_of
from narration.chunking.sentences import split_sentences
from narration.errors import Damaged, QualityError
from narration.speech_duration import expected_seconds
from narration.store import ClipCollection

MAX_CONTEXT = 8.0  # s; more flattens the delivery and costs the worker's slot
MAX_MOVE = 1.5  # s between where a sentence would begin by its text and the pause it is cut at


@dataclass(frozen=True, slots=True)
class Context:
    """The text and the audio (FLAC) spoken just before; `text` is None where no sentence end was found."""

    text: str | None
    flac: bytes


def read_context(clips: ClipCollection, previous: str) -> Context:
    """The context from the stored clip with the digest `previous`.

    Raises `QualityError` where there is none, and `Damaged` for a clip whose bytes are altered. That
    one is discarded, since its size was right and a plan cannot notice it: the next plan makes it again.
    """
    clip = clips.find(previous)
    if clip is None:
        raise QualityError("the chunk before has no clip to continue from", retryable=False)
    try:
        flac = clips.read(clip)
    except Damaged:
        clips.delete_if_damaged(previous)
        raise
    return cut_context(flac, clip.sidecar.text)


def cut_context(flac: bytes, text: str) -> Context:
    """The longest run of whole sentences at the end of a clip that fits into `MAX_CONTEXT` seconds.

    It depends on the clip alone, so that the clip's digest identifies it too.
    """
    waveform, rate = audio.decode(flac)
    if waveform.size <= MAX_CONTEXT * rate:
        return Context(text, flac)
    sentences = split_sentences(text)
    weights = [expected_seconds(sentence) for sentence in sentences]
    shape = shape_of(waveform, rate)
    samples_per_second = (shape.speech_end - shape.speech_start) / sum(weights)
    for first, before in list(enumerate(accumulate(weights), start=1))[:-1]:
        boundary = shape.speech_start + before * samples_per_second
        middles = ((start + end) // 2 for start, end in shape.pauses)
        cut = min(middles, key=lambda middle: abs(middle - boundary), default=0)
        # A later pause may fit where this one does not, but there another clause begins: the text and
        # the audio would not match.
        if abs(cut - boundary) <= MAX_MOVE * rate and waveform.size - cut <= MAX_CONTEXT * rate:
            return Context(" ".join(sentences[first:]), audio.encode_flac(waveform[cut:], rate))
    return Context(None, b"")
