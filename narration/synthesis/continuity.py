"""The end of the clip before, as context for the next: whole sentences, at most 8 s, cut at a pause."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from narration import audio
from narration.audio.shape import shape_of
from narration.chunking.sentences import split_sentences
from narration.speech_duration import expected_seconds

MAX_CONTEXT = 8.0  # s; more flattens the delivery and costs the worker's slot
MAX_MOVE = 1.5  # s between where a sentence would begin by its text and the pause it is cut at


@dataclass(frozen=True, slots=True)
class Context:
    """What was said just before, and its sound. `text` None: no sentence end could be found in reach."""

    text: str | None
    flac: bytes


def cut_context(flac: bytes, text: str) -> Context:
    """The longest run of whole sentences at the end of a clip that fits into `MAX_CONTEXT` seconds.

    A function of the clip alone, so that its identity is covered by the clip's.
    """
    waveform, rate = audio.decode(flac)
    if waveform.size <= MAX_CONTEXT * rate:
        return Context(text, flac)
    sentences = split_sentences(text)
    weights = [expected_seconds(sentence) for sentence in sentences]
    shape = shape_of(waveform, rate)
    spoken = (shape.speech_end - shape.speech_start) / sum(weights)
    for first, before in list(enumerate(accumulate(weights), start=1))[:-1]:
        place = shape.speech_start + before * spoken
        middles = ((start + end) // 2 for start, end in shape.pauses)
        cut = min(middles, key=lambda middle: abs(middle - place), default=0)
        # A pause further on may fit where this one does not, but it is another clause's: words and
        # sound would not be of one another.
        if abs(cut - place) <= MAX_MOVE * rate and waveform.size - cut <= MAX_CONTEXT * rate:
            return Context(" ".join(sentences[first:]), audio.encode_flac(waveform[cut:], rate))
    return Context(None, b"")
