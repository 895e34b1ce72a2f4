"""Missing clips are made: jobs paid, attempts judged, the best kept.

`synthesis` makes one clip, `candidate` judges an attempt at it, `account` is what the clip has cost so
far, `job_notes` which job was submitted for it, `continuity` cuts its context from the clip before;
`budget` says what may still be paid, `tally` what a whole run has made and lost.
"""

from narration.synthesis.synthesizer import SynthesizedClip, Synthesizer

__all__ = [
    "SynthesizedClip",
    "Synthesizer",
]
