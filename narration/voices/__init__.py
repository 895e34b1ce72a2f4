"""Voices: a recording and its transcript under a name, in the store and on the way to the worker.

`voice` is the stored voice, `catalog` finds and chooses stored ones, `adding` stores a new one: `sources`
reads its parts, `conversion` makes a format that the worker decodes, `checks` lists a sample's problems.
`transport` sends the sample to the worker.
"""

from narration.voices.adding import add_voice, import_default_voice
from narration.voices.catalog import choose_voice, find_voice, list_voices, recheck_voice
from narration.voices.voice import Voice

__all__ = [
    "Voice",
    "add_voice",
    "choose_voice",
    "find_voice",
    "import_default_voice",
    "list_voices",
    "recheck_voice",
]
