"""The master: clips become one file of the length that the timeline says, at the loudness asked for.

`master` is the way in. `assembly` puts the clips in their places, `mastering` sets the level and
writes the files, `ffmpeg_process` is how ffmpeg is found and run.
"""

from narration.mastering.mastering import PRESETS, Loudness, Master, Preset, master

__all__ = [
    "PRESETS",
    "Loudness",
    "Master",
    "Preset",
    "master",
]
