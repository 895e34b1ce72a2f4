"""What commands share: the types of their options and arguments, with help and checks; examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from narration.settings import EngineName


def _usd(_: object, tokens: Sequence[Token]) -> float:
    text = tokens[0].value
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < math.inf:
        raise ValueError(f"{text!r} is not an amount of USD above 0")
    return amount


def _from_one(_: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if not (text.isdecimal() and int(text)):
        raise ValueError(f"{text!r} is not a number from 1")
    return int(text)


def _from_zero(_: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number from 0")
    return int(text)


ScriptFile = Annotated[Path, Parameter(name="SCRIPT", help="A text or Markdown file.")]
NarrationId = Annotated[str, Parameter(name="ID", help="The narration's id.")]
ChunkNumber = Annotated[
    int, Parameter(name="CHUNK", required=True, converter=_from_one, help="Chunk numbers, from 1.")
]
VoiceName = Annotated[str, Parameter(name="NAME", help="The voice's name.")]

NewId = Annotated[
    str | None,
    Parameter(name="--id", metavar="ID", help="The narration's id; made of the file's name if not given."),
]
VoiceOption = Annotated[
    str | None, Parameter(name="--voice", metavar="NAME", help="The voice; `default` if not given.")
]
StoreOption = Annotated[
    str | None, Parameter(name="--store", metavar="URL", help="A folder or s3://bucket/prefix.")
]
EngineOption = Annotated[
    EngineName | None,
    Parameter(name="--engine", help="If not given: higgs where an endpoint is configured, else draft."),
]
MaxCost = Annotated[
    float | None,
    Parameter(
        name="--max-cost", metavar="USD", converter=_usd, help="Do not start, or go on, beyond this price."
    ),
]
Seed = Annotated[
    int | None,
    Parameter(
        name="--seed",
        metavar="N",
        converter=_from_zero,
        help="Seed of the new takes; derived from the take if not given.",
    ),
]
Take = Annotated[
    int | None,
    Parameter(
        name="--take", metavar="N", converter=_from_one, help="Go back to take N instead of making one."
    ),
]
NewTexts = Annotated[
    list[str] | None,
    Parameter(name="--text", metavar="CHUNK=TEXT", help="Other words for a chunk; may be repeated."),
]
Json = Annotated[
    bool, Parameter(name="--json", help="Print one JSON object on stdout, and nothing else there.")
]


def examples(*commands: str) -> str:
    """The end of a command's help: whole commands to copy."""
    return "\n".join(["Examples:", *(f"  {command}" for command in commands)])
