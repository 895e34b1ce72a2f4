"""Voices: a sample, what it says, and how both come into the store and to the worker.

`voice` is what one is, `voices` what a person does with them, `sources` where samples come from,
`checks` what is wrong with one, `transport` how one reaches the worker.
"""

from narration.voices.catalog import (
    add_voice,
    choose_voice,
    find_voice,
    import_default_voice,
    list_voices,
    recheck_voice,
)
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
