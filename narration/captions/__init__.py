"""Captions: a cue for each sentence, with times from the timeline.

`captions` decides what each cue says and when, `wrapping` breaks it into lines that fit.
"""

from narration.captions.captions import Cue, make_cues, to_srt, to_vtt

__all__ = [
    "Cue",
    "make_cues",
    "to_srt",
    "to_vtt",
]
