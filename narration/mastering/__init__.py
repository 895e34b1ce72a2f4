"""The master: clips become one file of the length that the timeline says, at the loudness asked for.

`master` is the way in. `shape` says how a clip is trimmed and how loud it is brought, `assembly`
puts the clips in their places, `loudness` measures, `mastering` sets the level and writes the
files, and `ffmpeg_process` is how ffmpeg is found and run.
"""

from narration.mastering.mastering import PRESETS, Loudness, Master, Preset, master

__all__ = [
    "PRESETS",
    "Loudness",
    "Master",
    "Preset",
    "master",
]
