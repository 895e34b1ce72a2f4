"""Words from outside, made fit to stand in a message or a log line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic_core import from_json

from narration.escaping import single_line

MAX_CHARACTERS = 500
_REASON_KEYS = ("error_message", "message", "error", "detail", "title")
_TRACEBACK = "Traceback (most recent call last)"


def one_line(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` on one line of at most `limit` characters, with nothing in it that a terminal would obey.

    Control, direction-changing and invisible characters become spaces, so that nobody outside
    can forge a line of a log.
    """
    # Cutting first bounds the work; a run of spaces that shrinks afterwards costs only words nobody reads.
    line = " ".join(single_line(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def error_reason(error: object) -> str:
    """What a job's `error` says, on one line: of a traceback only what was raised, "" when it says nothing.

    RunPod's SDK sends an exception as a JSON text holding `error_type`, `error_message` and
    `error_traceback`; validators send lists, other workers objects or plain text.
    """
    return one_line(_reason(error, depth=0))


def _reason(error: object, depth: int) -> str:
    if error is None or depth > 4:
        return ""
    if isinstance(error, str):
        return _of_text(error, depth)
    if isinstance(error, Mapping):
        return _of_object(error, depth)
    if isinstance(error, list):
        return "; ".join(filter(None, (_reason(part, depth + 1) for part in error[:20])))
    return str(error)


def _of_text(error: str, depth: int) -> str:
    if error.lstrip().startswith(("{", "[")):
        try:
            return _reason(from_json(error), depth + 1)
        except ValueError:
            pass  # text that only begins like JSON
    if _TRACEBACK in error:
        return _last_line(error)
    return error


def _of_object(error: Mapping[str, object], depth: int) -> str:
    for key in _REASON_KEYS:
        said = _reason(error.get(key), depth + 1)
        if said:
            kind = re.search(r"(\w+)'?>?$", str(error.get("error_type", "")))
            return f"{kind[1]}: {_last_line(said)}" if kind else said
    known = {key: value for key, value in error.items() if key != "error_traceback"}
    return json.dumps(known, default=str) if known else ""


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
